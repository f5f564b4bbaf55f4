"""Mounts that exist before they have a place: fsopen/fsconfig/fsmount, open_tree, mount_setattr, move_mount.

These system calls have one number on every architecture. Linux 5.2, mount_setattr 5.12.
"""

import ctypes
import os
from types import TracebackType
from typing import Self

from layerfs.sys.libc import call
from layerfs.sys.mounts import MountFlag, way_to

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

_OPEN_TREE = 428
_MOVE_MOUNT = 429
_FSOPEN = 430
_FSCONFIG = 431
_FSMOUNT = 432
_MOUNT_SETATTR = 442

_FSOPEN_CLOEXEC = 1
_SET_FLAG = 0
_SET_STRING = 1
_SET_FD = 5
_CMD_CREATE = 6
_FSMOUNT_CLOEXEC = 1
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 0x04
_MOVE_MOUNT_T_SYMLINKS = 0x10

STRING_LIMIT = 255  # bytes; strndup_user(value, 256) in fs/fsopen.c, the NUL included
MESSAGE_SIZE = 4096

_ATTRIBUTES = {
    MountFlag.RDONLY: 0x01,
    MountFlag.NOSUID: 0x02,
    MountFlag.NODEV: 0x04,
    MountFlag.NOEXEC: 0x08,
    MountFlag.NOATIME: 0x10,
    MountFlag.STRICTATIME: 0x20,
    MountFlag.NODIRATIME: 0x80,
    MountFlag.NOSYMFOLLOW: 0x200000,
}
# These belong to the superblock; the kernel takes them as parameters of every filesystem (fs/fs_context.c).
_SUPER_FLAGS = {
    MountFlag.RDONLY: b"ro",
    MountFlag.SYNCHRONOUS: b"sync",
    MountFlag.DIRSYNC: b"dirsync",
    MountFlag.LAZYTIME: b"lazytime",
}


class MountAttr(ctypes.Structure):
    """struct mount_attr (linux/mount.h)."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class FsContext:
    """One filesystem being configured; a context manager that owns its descriptor.

    Every OSError carries what the kernel wrote into the context about it, where it wrote something.
    """

    def __init__(self, kind: bytes) -> None:
        self._fd = call(_FSOPEN, kind, _FSOPEN_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._fd)

    def set_flag(self, key: bytes) -> None:
        """Set a parameter that has no value."""
        self._configure(_SET_FLAG, key, None, 0, key)

    def set_string(self, key: bytes, value: bytes) -> None:
        """Set a parameter; EINVAL if the value is longer than STRING_LIMIT."""
        self._configure(_SET_STRING, key, value, 0, value)

    def set_descriptor(self, key: bytes, fd: int, path: bytes) -> None:
        """Set a parameter to an open file; errors name `path`. The kernel holds what it needs: `fd` may be closed."""
        self._configure(_SET_FD, key, None, fd, path)

    def set_option(self, option: str) -> None:
        """Set `key` or `key=value`."""
        key, equals, value = os.fsencode(option).partition(b"=")
        if equals:
            self.set_string(key, value)
        else:
            self.set_flag(key)

    def create(self, flags: int = MountFlag.NONE) -> None:
        """Make the superblock, with those of the flags that are the superblock's."""
        for flag, name in _SUPER_FLAGS.items():
            if flags & flag:
                self.set_flag(name)
        self._configure(_CMD_CREATE, None, None, 0, None)

    def mount(self, flags: int = MountFlag.NONE) -> int:
        """Return a descriptor of the mount, which is nowhere yet; closed without `attach` it is gone."""
        return call(_FSMOUNT, self._fd, _FSMOUNT_CLOEXEC, attributes(flags))

    def _configure(self, command: int, key: bytes | None, value: bytes | None, aux: int, path: bytes | None) -> None:
        try:
            call(_FSCONFIG, self._fd, command, key, value, aux, path=path)
        except OSError as error:
            said = self._messages()
            if said:
                raise OSError(error.errno, f"{error.strerror}: {said}", path) from error
            raise

    def _messages(self) -> str:
        """Return what the kernel says; each read gives one message, ENODATA ends them (Documentation/filesystems)."""
        said: list[str] = []
        while True:
            try:
                message = os.read(self._fd, MESSAGE_SIZE)
            except OSError:
                return "; ".join(said)
            said.append(os.fsdecode(message[2:].strip()))  # "e ", "w " or "i " comes first


def attributes(flags: int) -> int:
    """Return flags of mount(2) as MOUNT_ATTR_*."""
    return sum(attribute for flag, attribute in _ATTRIBUTES.items() if flags & flag)


def attach(mount: int, target: bytes) -> None:
    """Put a mount that is nowhere yet at `target`; its descriptor stays open and stays the caller's."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_SYMLINKS
    with way_to(target) as path:
        call(_MOVE_MOUNT, mount, b"", AT_FDCWD, path, flags, path=target)


def clone_tree(path: bytes, *, recursive: bool = False) -> int:
    """Return a descriptor of a copy of the mount at `path`, from there down, to `attach` elsewhere."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    return call(_OPEN_TREE, AT_FDCWD, path, flags, path=path)


def set_attributes(mount: int, flags: int, *, recursive: bool = False) -> None:
    """Set flags (RDONLY, NOSUID ...) on a mount, private to this place."""
    what = MountAttr(attr_set=attributes(flags), propagation=MountFlag.PRIVATE)
    set_mount_attr(mount, what, recursive=recursive)


def set_mount_attr(mount: int, what: MountAttr, *, recursive: bool = False) -> None:
    """Call mount_setattr(2) on a mount, given by its descriptor; `recursive`: on all that is mounted below it, too."""
    at = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    call(_MOUNT_SETATTR, mount, b"", at, what, ctypes.sizeof(what))


def make(kind: bytes, options: tuple[str, ...] = (), flags: int = MountFlag.NONE) -> int:
    """Return the descriptor of a new filesystem that has no layers (tmpfs, proc, devpts); it is nowhere yet."""
    with FsContext(kind) as context:
        context.set_string(b"source", b"layerfs")
        for option in options:
            context.set_option(option)
        context.create(flags)
        return context.mount(flags)


def mount_new(kind: bytes, target: bytes, options: tuple[str, ...] = (), flags: int = MountFlag.NONE) -> None:
    """Mount a filesystem that has no layers at `target`."""
    mount = make(kind, options, flags)
    try:
        attach(mount, target)
    finally:
        os.close(mount)
