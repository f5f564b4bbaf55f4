"""Files that are made without a name (O_TMPFILE), and may get one later.

Such a file is kept by a name in the scratch directory, as an unlinked file may be (orphans.py): that name goes with the
file's last user, with the file's first name, or when the next mount empties the directory.
"""

import errno
import os
import stat
from contextlib import suppress

from layerfs.sys import dirs
from layerfs.union.copyup import copy_up_directory
from layerfs.union.inodes import Directory, File
from layerfs.union.mutate import Caller, fail, inherit, own
from layerfs.union.orphans import in_work
from layerfs.union.shown import fingerprint
from layerfs.union.state import Writable

_NAME = b"tmpfile"  # while it is being made, in a directory of its own


def make(ov: Writable, parent: Directory, mode: int, caller: Caller) -> tuple[File, int]:
    """Make an empty regular file that belongs to a directory and has no name in it; return it, open to read and write.

    Owner, group, mode and ACL are those of a file that is created there. ENOENT in a directory that was removed.
    """
    if parent.dead:
        raise fail(errno.ENOENT)
    at = ov.fd(copy_up_directory(ov, parent))
    uid, gid = ov.owners.of_new(caller.uid, caller.gid)
    with ov.handles.held():
        fd, name = _make(ov, at, mode, Caller(uid, gid, caller.umask))
    try:
        return _node_of(ov, parent, fd, name), fd
    except BaseException:
        os.close(fd)
        os.unlink(name, dir_fd=ov.upper.work.fd)
        raise


def _make(ov: Writable, at: int, mode: int, owner: Caller) -> tuple[int, bytes]:
    """Make the file as one in the directory `at` of the upper; return it, and its name in the scratch directory."""
    work = ov.upper.work
    staging, kept = work.name(), work.name()
    os.mkdir(staging, 0o700, dir_fd=work.fd)
    inside = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=work.fd)
    fd = -1
    try:
        inherited = inherit(ov, at, inside)
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        with dirs.umask(owner.umask):
            fd = os.open(_NAME, flags, stat.S_IMODE(mode), dir_fd=inside)
        own(ov, fd, stat.S_IFREG | stat.S_IMODE(mode), owner, inherited)
        os.rename(_NAME, kept, src_dir_fd=inside, dst_dir_fd=work.fd)
        return fd, kept
    except BaseException:
        if fd >= 0:
            os.close(fd)
        raise
    finally:
        os.close(inside)
        with suppress(OSError):  # the next mount empties the scratch directory
            dirs.remove(work.fd, staging)


def _node_of(ov: Writable, parent: Directory, fd: int, name: bytes) -> File:
    st = os.fstat(fd)
    number = ov.numbers.of(st.st_dev, st.st_ino)
    ino = number
    if ov.table.find(ino) is not None:
        ino = ov.table.free_number(number, ov.numbers.hashed(st.st_dev, st.st_ino))
    node = File.unnamed(ino, parent, stat.S_IFREG >> 12)
    if ino != number:
        node.own = number
    node.seen = fingerprint(st)
    extra = node.opened()
    extra.unnamed_in, extra.kept_at, extra.linkable = ov.upper.tree, in_work(ov, name), True
    ov.table.add(node)
    return node
