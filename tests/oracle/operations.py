"""The operations, performed relative to the current directory; each gives a value that two mounts must agree upon.

An operation is a tuple: its name, then literals. `("as", uid, operation)` performs it without privileges.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import stat
import struct
from collections.abc import Callable
from typing import Any

from tests.oracle.trees import expand, read_record, read_tree, shown_time

Operation = tuple[Any, ...]

NOREPLACE, EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
_AT_FDCWD, _AT_SYMLINK_FOLLOW = -100, 0x400
_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS
_libc = ctypes.CDLL(None, use_errno=True)


def renameat2(old: bytes, new: bytes, flags: int) -> None:
    """rename(2) with flags, which os.rename lacks."""
    if _libc.renameat2(_AT_FDCWD, old, _AT_FDCWD, new, flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def allocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2), of which os has the plain form only."""
    if _libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Actor:
    """One process that has a mount as its current directory and a few open files in numbered slots."""

    def __init__(self, root: bytes = b".", copy_on_exdev: bool = False) -> None:
        os.chdir(root)
        self.slots: dict[int, int] = {}
        self.copy_on_exdev = copy_on_exdev

    def perform(self, operation: Operation) -> tuple[str, Any]:
        """Perform one operation: ("ok", value) or ("error", name of the errno)."""
        name, *arguments = operation
        try:
            return "ok", getattr(self, "do_" + name)(*arguments)
        except OSError as error:
            return "error", errno.errorcode.get(error.errno or 0, str(error.errno))

    def close(self) -> None:
        for fd in self.slots.values():
            os.close(fd)
        self.slots.clear()

    # whole trees and users

    def do_tree(self) -> Any:
        return read_tree()

    def do_as(self, uid: int, operation: Operation) -> Any:
        os.setegid(uid)
        os.seteuid(uid)
        try:
            return getattr(self, "do_" + operation[0])(*operation[1:])
        finally:
            os.seteuid(0)
            os.setegid(0)

    def do_umask(self, mask: int) -> None:
        os.umask(mask)

    # open files

    def do_open(self, slot: int, path: bytes, flags: int, mode: int) -> None:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, mode)
        if slot in self.slots:
            os.close(self.slots.pop(slot))
        self.slots[slot] = fd

    def do_close(self, slot: int) -> None:
        fd = self.slots.pop(slot, None)
        if fd is not None:
            os.close(fd)

    def _on(self, slot: int, act: Callable[[int], Any]) -> Any:
        return act(self.slots[slot]) if slot in self.slots else "nothing open"

    def do_write(self, slot: int, data: bytes) -> Any:
        return self._on(slot, lambda fd: os.write(fd, expand(data)))

    def do_pwrite(self, slot: int, offset: int, data: bytes) -> Any:
        return self._on(slot, lambda fd: os.pwrite(fd, expand(data), offset))

    def do_pread(self, slot: int, offset: int, size: int) -> Any:
        return self._on(slot, lambda fd: os.pread(fd, size, offset))

    def do_ftruncate(self, slot: int, size: int) -> Any:
        return self._on(slot, lambda fd: os.ftruncate(fd, size))

    def do_fallocate(self, slot: int, mode: int, offset: int, length: int) -> Any:
        return self._on(slot, lambda fd: allocate(fd, mode, offset, length))

    def do_seek(self, slot: int, offset: int, whence: int) -> Any:
        def find(fd: int) -> Any:
            return os.lseek(fd, offset, whence) if stat.S_ISREG(os.fstat(fd).st_mode) else "no file"

        return self._on(slot, find)

    def do_copy_range(self, slot: int, to: int, offset: int, to_offset: int, length: int) -> Any:
        if slot not in self.slots or to not in self.slots:
            return "nothing open"
        return os.copy_file_range(self.slots[slot], self.slots[to], length, offset, to_offset)

    def do_tmpfile(self, slot: int, path: bytes, flags: int, mode: int) -> None:
        self.do_open(slot, path or b".", os.O_TMPFILE | flags, mode)

    def do_link_open(self, slot: int, path: bytes) -> Any:
        """Give an open file a name."""

        def link(fd: int) -> None:
            if _libc.linkat(_AT_FDCWD, b"/proc/self/fd/%d" % fd, _AT_FDCWD, path, _AT_SYMLINK_FOLLOW):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))

        return self._on(slot, link)

    def do_flags(self, path: bytes, changed: int) -> int:
        """Change inode flags of a file or directory, and tell which of them are set."""
        if stat.S_IFMT(os.lstat(path or b".").st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
            return 0
        fd = os.open(path or b".", os.O_RDONLY | os.O_NOFOLLOW)
        try:
            before = struct.unpack("=I", fcntl.ioctl(fd, _GETFLAGS, bytes(8))[:4])[0]
            fcntl.ioctl(fd, _SETFLAGS, struct.pack("=Q", before ^ changed))
            return int(struct.unpack("=I", fcntl.ioctl(fd, _GETFLAGS, bytes(8))[:4])[0])
        finally:
            os.close(fd)

    def do_fchmod(self, slot: int, mode: int) -> Any:
        return self._on(slot, lambda fd: os.fchmod(fd, mode))

    def do_fsync(self, slot: int) -> Any:
        return self._on(slot, os.fsync)

    def do_fstat(self, slot: int) -> Any:
        def look(fd: int) -> Any:
            now = os.fstat(fd)
            links = None if stat.S_ISDIR(now.st_mode) else now.st_nlink
            size = None if stat.S_ISDIR(now.st_mode) else now.st_size
            return oct(now.st_mode), now.st_uid, now.st_gid, links, size, shown_time(now.st_mtime_ns)

        return self._on(slot, look)

    def do_mmap_write(self, slot: int, offset: int, data: bytes) -> Any:
        def store(fd: int) -> Any:
            now = os.fstat(fd)
            if not stat.S_ISREG(now.st_mode) or now.st_size < offset + len(data):
                return "too small"
            with mmap.mmap(fd, now.st_size) as mapped:
                mapped[offset : offset + len(data)] = data
                mapped.flush()
            return None

        return self._on(slot, store)

    # names

    def do_put(self, path: bytes, data: bytes) -> Any:
        return self._write(path, os.O_CREAT | os.O_TRUNC, data)

    def do_create(self, path: bytes, data: bytes) -> Any:
        return self._write(path, os.O_CREAT | os.O_EXCL, data)

    def do_append(self, path: bytes, data: bytes) -> Any:
        return self._write(path, os.O_APPEND, data)

    def _write(self, path: bytes, flags: int, data: bytes) -> int:
        fd = os.open(path, flags | os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
        try:
            return os.write(fd, expand(data))
        finally:
            os.close(fd)

    def do_read(self, path: bytes) -> bytes:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            return os.read(fd, 1 << 16)
        finally:
            os.close(fd)

    def do_truncate(self, path: bytes, size: int) -> None:
        if os.stat(path).st_size == size:  # known.py: "truncate(2) to the same size"
            os.truncate(path, size + 1)
        os.truncate(path, size)

    def do_mkdir(self, path: bytes, mode: int) -> None:
        os.mkdir(path, mode)

    def do_rmdir(self, path: bytes) -> None:
        os.rmdir(path)

    def do_unlink(self, path: bytes) -> None:
        os.unlink(path)

    def do_rename(self, old: bytes, new: bytes, flags: int) -> None:
        try:
            renameat2(old, new, flags)
        except OSError as error:
            if error.errno != errno.EXDEV or not self.copy_on_exdev:
                raise
            _rename_by_hand(old, new, flags)

    def do_link(self, old: bytes, new: bytes) -> None:
        os.link(old, new, follow_symlinks=False)

    def do_symlink(self, target: bytes, path: bytes) -> None:
        os.symlink(target, path)

    def do_mknod(self, path: bytes, mode: int, major: int, minor: int) -> None:
        os.mknod(path, mode, os.makedev(major, minor))

    def do_chmod(self, path: bytes, mode: int) -> None:
        os.chmod(path, mode)

    def do_chown(self, path: bytes, uid: int, gid: int) -> None:
        os.chown(path, uid, gid, follow_symlinks=False)

    def do_utimens(self, path: bytes, nanoseconds: int) -> None:
        os.utime(path, ns=(nanoseconds, nanoseconds), follow_symlinks=False)

    def do_setxattr(self, path: bytes, name: str, value: bytes, flags: int) -> None:
        os.setxattr(path, name, value, flags, follow_symlinks=False)

    def do_removexattr(self, path: bytes, name: str) -> None:
        os.removexattr(path, name, follow_symlinks=False)

    def do_getxattr(self, path: bytes, name: str) -> bytes:
        return os.getxattr(path, name, follow_symlinks=False)

    def do_stat(self, path: bytes) -> Any:
        return read_record(path, os.lstat(path))

    def do_access(self, path: bytes, mode: int) -> bool:
        return os.access(path, mode, effective_ids=True)

    def do_readlink(self, path: bytes) -> bytes:
        return os.readlink(path)

    def do_readdir(self, path: bytes) -> Any:
        with os.scandir(path) as entries:
            return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)

    def do_fsyncdir(self, path: bytes) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    # what an application does in one go

    def do_types(self) -> dict[bytes, str]:
        """The tree's names, for whoever aims operations."""
        return {path: record.type for path, record in read_tree().records.items()}

    def do_resolve(self, path: bytes, follow: bool) -> bytes:
        """The path without symlinks and dots; of the last name only if it is to be followed."""
        here, (parent, name) = os.path.realpath(b"."), os.path.split(path)
        full = os.path.realpath(path) if follow else os.path.join(os.path.realpath(parent or b"."), name)
        found = os.path.relpath(full, here)
        return b"" if found == b"." else found

    def do_rmtree(self, path: bytes) -> None:
        """Remove everything below and the directory itself."""
        with os.scandir(path) as entries:
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        for name, is_dir in found:
            (self.do_rmtree if is_dir else os.unlink)(os.path.join(path, name))
        os.rmdir(path)

    def do_open_unlink_read(self, path: bytes, data: bytes) -> Any:
        """Open, unlink, write and read through the descriptor."""
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            os.unlink(path)
            written = os.pwrite(fd, expand(data), 1) if stat.S_ISREG(os.fstat(fd).st_mode) else 0
            now = os.fstat(fd)
            return written, os.pread(fd, 1 << 16, 0) if stat.S_ISREG(now.st_mode) else b"", now.st_size
        finally:
            os.close(fd)


def _rename_by_hand(old: bytes, new: bytes, flags: int) -> None:
    """What a mover does on EXDEV: the stand-in where kernel overlayfs has no redirects (userxattr)."""
    if flags & EXCHANGE:
        aside = old + b".aside"
        for one, two in ((old, aside), (new, old), (aside, new)):
            _move(one, two)
        return
    if os.path.lexists(new):
        if flags & NOREPLACE:
            raise OSError(errno.EEXIST, "target exists")
        os.rmdir(new)
    _move(old, new)


def _move(old: bytes, new: bytes) -> None:
    """Move one name, directories by making them anew and moving what is in them."""
    if not stat.S_ISDIR(os.lstat(old).st_mode):
        os.rename(old, new)
        return
    now = os.stat(old)
    xattrs = [(name, os.getxattr(old, name)) for name in os.listxattr(old)]
    os.mkdir(new)
    for child in os.listdir(old):
        _move(os.path.join(old, child), os.path.join(new, child))
    for name in set(os.listxattr(new)) - {name for name, _ in xattrs}:
        os.removexattr(new, name)  # a default ACL of the new parent is not inherited by a rename
    os.chown(new, now.st_uid, now.st_gid)
    os.chmod(new, stat.S_IMODE(now.st_mode))
    for xattr, value in xattrs:
        os.setxattr(new, xattr, value)
    os.utime(new, ns=(now.st_atime_ns, now.st_mtime_ns))
    os.rmdir(old)
