"""The bytes of files: one handle per file, shared by all its opens, so that every open sees a copy-up.

Descriptors of files that can be opened again are closed when there are too many: a thousand open files of a container
need not be a thousand of ours.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from layerfs.sys import target
from layerfs.union import opened
from layerfs.union.copyup import copy_up, needs_copy_up
from layerfs.union.inodes import File
from layerfs.union.layers import Part
from layerfs.union.lookup import attributes
from layerfs.union.metacopy import complete, data_of, open_seen
from layerfs.union.opened import Handle
from layerfs.union.orphans import anchor
from layerfs.union.state import Overlay, Writable

MUCH: Final = 4 << 20  # bytes; to free less takes a filesystem no longer than a thread hop; guessed


def handle_of(ov: Overlay, node: File) -> Handle:
    """Return the handle that a file's data is read by, opening it as needed."""
    extra = node.opened()
    if extra.data is not None and extra.opens:
        return extra.data
    part = node.part
    if part is None:
        return _switch(ov, node, opened.reopen(anchor(ov, node), os.O_RDONLY), writable=False)
    handle, st = open_seen(ov, node, part)
    data = None
    try:
        data = data_of(ov, node, part, handle, st)
    finally:
        if data is not handle:
            opened.close(handle)
    return _switch(ov, node, data, writable=False)


def writable_fd(ov: Writable, node: File, *, cut: bool = False) -> int:
    """Return the descriptor that a file's data is written by, opening it, and copying it up, as needed.

    With `cut` what it holds is not needed: a truncate to 0 is to follow.
    """
    if needs_copy_up(node):
        copy_up(ov, node, keep_open=True)
    extra = node.opened()
    if isinstance(extra.data, int) and extra.writable and extra.opens:
        return extra.data
    part = node.part
    if part is None:
        handle = opened.reopen(anchor(ov, node), os.O_RDWR)
        if not isinstance(handle, int):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        fd = handle
    else:
        fd = _open_to_write(ov, node, part, cut=cut)
    _switch(ov, node, fd, writable=True)
    return fd


def _switch(ov: Overlay, node: File, handle: Handle, *, writable: bool) -> Handle:
    """Switch all opens of a file to this handle."""
    extra = node.opened()
    extra.retire()
    extra.data, extra.writable = handle, writable
    if (node.part is not None or extra.is_held_by_name) and isinstance(handle, int):  # only descriptors are scarce
        ov.files.add(node)
    return handle


def _open_to_write(ov: Writable, node: File, part: Part, *, cut: bool) -> int:
    at = ov.fd(part)
    try:
        fd = ov.upper.tree.open(at, node.name, os.O_RDWR, node.is_seen)
    except PermissionError:  # a file its owner may write but not read
        return ov.upper.tree.open(at, node.name, os.O_WRONLY, node.is_seen)
    try:
        complete(ov, node, part, fd, cut=cut)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_file(ov: Overlay, node: File) -> None:
    """Open a regular file for reading."""
    ov.files.admit()
    extra = node.opened()
    extra.opens += 1
    try:
        handle_of(ov, node)
    except BaseException:
        release(ov, node)
        raise


def open_for_writing(ov: Writable, node: File, flags: int) -> None:
    """Open a regular file as open(2) would with these flags; O_CREAT and O_EXCL were handled by the caller."""
    truncates = flags & os.O_TRUNC
    ov.files.admit()
    copy_up(ov, node, 0 if truncates else None, keep_open=True)
    extra = node.opened()
    extra.opens += 1
    try:
        fd = writable_fd(ov, node, cut=bool(truncates))
        extra.written = True
        if truncates:
            extra.mtime_ns = None
            os.ftruncate(fd, 0)
    except BaseException:
        release(ov, node)
        raise


def keep_usable(ov: Writable, node: File) -> None:
    """Open the data of an open file before its owner or mode changes: afterwards we may not be permitted to."""
    extra = node.extra
    if extra is None or not extra.opens or extra.data is not None:
        return
    if extra.written:
        writable_fd(ov, node)
    else:
        handle_of(ov, node)


def adopt_fd(ov: Overlay, node: File, fd: int) -> None:
    """Open a new file with the descriptor that it was made with."""
    extra = node.opened()
    extra.opens += 1
    extra.retire()
    extra.data, extra.writable, extra.written = fd, True, True
    ov.files.add(node)


def release(ov: Overlay, node: File) -> None:
    """Take back one open; the last one closes the handle, unless that alone keeps the file alive."""
    extra = node.extra
    if extra is None:
        return
    extra.opens -= 1
    if extra.opens > 0 or extra.busy:
        return
    extra.written, extra.outsider, extra.mtime_ns = False, False, None
    extra.close_retired()
    if node.part is not None:
        if extra.data is not None:
            opened.close(extra.data)
            extra.data, extra.writable = None, False
            ov.files.remove(node)
        extra.unpin()
        ov.files.let_go(node)
    if node.lookups == 0:
        ov.table.reap(node)
    elif node.part is not None and not extra.aliases and not extra.incomplete:
        node.extra = None


def note_mtime(node: File, fd: int) -> None:
    """Note the mtime that the kernel knows, before something that it had cached is written."""
    extra = node.opened()
    if extra.mtime_ns is None:
        extra.mtime_ns = os.fstat(fd).st_mtime_ns


def restore_mtime(node: File, fd: int) -> None:
    """Set the mtime that the kernel knows after a write, perhaps one that it has sent meanwhile."""
    known, now = node.opened().mtime_ns, os.fstat(fd)
    if known is not None and known != now.st_mtime_ns:
        with suppress(OSError):  # EPERM: somebody else's file, which a plain user's server may only write to
            target.utime(fd, now.st_atime_ns, known)


@contextmanager
def cutting(ov: Writable, node: File, size: int) -> Iterator[int | None]:
    """Hold a file of the upper open for writing that is to lose MUCH or more; yields None for any other."""
    if not node.is_regular or needs_copy_up(node) or attributes(ov, node).st_size < size + MUCH:
        yield None
        return
    ov.files.admit()
    extra = node.opened()
    extra.opens += 1
    extra.mtime_ns = None
    try:
        fd = writable_fd(ov, node, cut=size == 0)
        extra.busy += 1
        try:
            yield fd
        finally:
            extra.busy -= 1
    finally:
        release(ov, node)


def open_to_sync(ov: Overlay, node: File) -> int | None:
    """Open a regular file of the upper, for fsync(2) only; None for anything else, and for what we may not open."""
    if not node.is_regular or node.part is None or not node.part.is_upper:
        return None
    try:
        handle = node.part.tree.open(ov.fd(node.part), node.name, os.O_RDONLY)
    except PermissionError:
        return None
    return handle if isinstance(handle, int) else None


def truncate(ov: Writable, node: File, size: int) -> None:
    """Set a file's length; a lower file is copied up no further than that."""
    if not node.is_regular:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    copy_up(ov, node, size)
    extra = node.opened()
    extra.opens += 1
    extra.mtime_ns = None
    try:
        os.ftruncate(writable_fd(ov, node, cut=size == 0), size)
    finally:
        release(ov, node)
