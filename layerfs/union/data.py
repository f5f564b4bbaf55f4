"""The bytes of files: one handle a file, shared by all who have it open, so that a copy-up is seen by everyone.

Descriptors of files that can be opened again are closed when there are too many: a thousand open files of a container
need not be a thousand of ours.
"""

import errno
import os
import stat

from layerfs.sys import dirs
from layerfs.union import opened
from layerfs.union.copyup import copy_up, needs_copy_up
from layerfs.union.inodes import File
from layerfs.union.metacopy import complete, data_of
from layerfs.union.state import Overlay

SXID = stat.S_ISUID | stat.S_ISGID


def fd_of(ov: Overlay, node: File, *, write: bool = False) -> int:
    """Return the file's data descriptor, opening it, or opening it for writing, as needed (then it is the upper's)."""
    extra = node.opened()
    if extra.fd >= 0 and (extra.writable or not write) and extra.opens:
        return extra.fd
    fd = _open_place(ov, node, write=write) if node.place is not None else _reopen(extra.anchor(), write=write)
    extra.retire()
    extra.fd, extra.writable = fd, write
    if node.place is not None and fd < opened.FOREIGN:  # only descriptors are scarce
        ov.files.add(node)
    return fd


def _open_place(ov: Overlay, node: File, *, write: bool) -> int:
    place = node.place
    assert place is not None
    at = ov.fd(place)
    try:
        fd = place.tree.open(at, node.name, os.O_RDWR if write else os.O_RDONLY)
    except PermissionError:
        if not write:
            raise
        return place.tree.open(at, node.name, os.O_WRONLY)  # a file its owner may write but not read
    if place.tree.index == 0 and write:
        complete(ov, node, fd)
        return fd
    return data_of(ov, node, fd)


def _reopen(fd: int, *, write: bool) -> int:
    return opened.reopen(fd, os.O_RDWR if write else os.O_RDONLY)


def open_file(ov: Overlay, node: File, flags: int) -> None:
    """Open a regular file as open(2) would, O_CREAT and O_EXCL being somebody else's business."""
    writing = flags & os.O_ACCMODE != os.O_RDONLY
    if writing or flags & os.O_TRUNC:
        ov.writable()
        if needs_copy_up(node):
            copy_up(ov, node, 0 if flags & os.O_TRUNC else None, keep_open=True)
    extra = node.opened()
    extra.opens += 1
    try:
        fd = fd_of(ov, node, write=bool(writing or flags & os.O_TRUNC))
        if flags & os.O_TRUNC:
            os.ftruncate(fd, 0)
    except BaseException:
        release(ov, node)
        raise


def adopt_fd(ov: Overlay, node: File, fd: int) -> None:
    """Open a file with a descriptor that its maker already has."""
    extra = node.opened()
    extra.opens += 1
    extra.retire()
    extra.fd, extra.writable = fd, True
    ov.files.add(node)


def release(ov: Overlay, node: File) -> None:
    """Take back one open; the last one closes the descriptor, unless it is all that is left of the file."""
    extra = node.extra
    if extra is None:
        return
    extra.opens -= 1
    if extra.opens > 0 or extra.busy:
        return
    for fd in extra.retired:
        opened.close(fd)
    extra.retired = []
    if node.place is not None and extra.fd >= 0:
        opened.close(extra.fd)
        extra.fd, extra.writable = -1, False
        ov.files.remove(node)
    if node.place is not None:
        extra.unpin()
    if node.lookups == 0:
        ov.table.reap(node)
    elif node.place is not None and not extra.aliases:
        node.extra = None


def truncate(ov: Overlay, node: File, size: int) -> None:
    """Set a file's length; a lower file is copied up no further than that."""
    if not node.is_regular:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    copy_up(ov, node, size)
    extra = node.opened()
    extra.opens += 1
    try:
        os.ftruncate(fd_of(ov, node, write=True), size)
    finally:
        release(ov, node)


def drop_sxid(ov: Overlay, node: File, fd: int) -> None:
    """Clear setuid and setgid as a write by somebody without CAP_FSETID does; the answer "none set" is remembered."""
    extra = node.opened()
    if extra.sxid is False:
        return
    if ov.owners.override is not None:
        drop_overridden_sxid(ov, dirs.held(fd))
    else:
        mode = os.fstat(fd).st_mode
        if kill := killed(mode):
            os.fchmod(fd, stat.S_IMODE(mode) & ~kill)
    extra.sxid = False


def killed(mode: int) -> int:
    """Return the bits that a write takes: setgid without group execution means something else."""
    return mode & stat.S_ISUID | (mode & stat.S_ISGID if mode & stat.S_IXGRP else 0)


def drop_overridden_sxid(ov: Overlay, path: dirs.Target) -> None:
    """Clear setuid and setgid where the mode that counts is in an xattr."""
    upper = ov.trees[0]
    assert upper is not None
    old = ov.owners.stored(upper, path, os.stat(path, follow_symlinks=dirs.follows(path)))
    if kill := killed(old.st_mode):
        ov.owners.write(path, old.st_uid, old.st_gid, old.st_mode & ~kill)
