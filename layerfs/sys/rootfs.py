"""A tree made into the root of this mount namespace: /proc, /dev, /sys and the resolver's configuration in place.

Only in a mount namespace of one's own. What is missing in the tree to mount on is made, and cleared away by `leave`,
so that an upper keeps nothing of it.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from layerfs.sys import fsmount
from layerfs.sys.mounts import MountFlag, unmount
from layerfs.sys.namespaces import drop_old_root, pivot_root

# Nodes that give no access to anything of the host; the terminal is added where there is one.
DEVICES = (b"null", b"zero", b"full", b"random", b"urandom", b"tty")
LINKS = {
    b"/dev/fd": b"/proc/self/fd",
    b"/dev/stdin": b"/proc/self/fd/0",
    b"/dev/stdout": b"/proc/self/fd/1",
    b"/dev/stderr": b"/proc/self/fd/2",
    b"/dev/ptmx": b"pts/ptmx",
}
RESOLVER = b"/etc/resolv.conf"
TTY_GROUP = 5  # Debian's and everybody's; a user namespace need not have it

_NO_PROGRAMS = MountFlag.NOSUID | MountFlag.NODEV | MountFlag.NOEXEC


def show_own_processes() -> None:
    """Put this pid namespace's /proc over the host's, unless a container around us hides parts of that one."""
    with suppress(PermissionError):  # mount_too_revealing() in fs/namespace.c
        fsmount.mount_new(b"proc", b"/proc", (), _NO_PROGRAMS)


class Root:
    """The tree that `enter` made the root, and what `leave` must remove."""

    def __init__(self) -> None:
        self._undo: list[tuple[Callable[[bytes], None], bytes]] = []

    def enter(self, tree: bytes) -> None:
        """Make the mountpoint `tree` the root and the working directory, and let go of the old root."""
        parts = _host_parts()
        try:
            pivot_root(tree)
            # While the old root is still there: the kernel grants a new proc only where one can be seen already.
            self._new(b"proc", b"/proc", (), _NO_PROGRAMS)
            self._new(b"tmpfs", b"/dev", ("mode=0755", "size=64k"), MountFlag.NOSUID)
            for target, mount in parts:
                self._place(target, mount)
        finally:
            for _, mount in parts:
                os.close(mount)
        self._fill_dev()
        drop_old_root()

    def leave(self) -> None:
        """Unmount what was mounted and remove what was made to mount it on, if nobody has filled it since.

        Backwards, step by step: once our /dev is unmounted, the same paths are those of the tree's own nodes.
        """
        for undo, path in reversed(self._undo):
            undo(path)

    def _fill_dev(self) -> None:
        for link, target in LINKS.items():
            os.symlink(target, link)
        os.mkdir(b"/dev/pts")
        os.mkdir(b"/dev/shm")
        self._new(b"tmpfs", b"/dev/shm", ("mode=1777",), MountFlag.NOSUID | MountFlag.NODEV)
        terminals = ("newinstance", "ptmxmode=0666", "mode=0620")
        try:
            self._new(b"devpts", b"/dev/pts", (*terminals, f"gid={TTY_GROUP}"), MountFlag.NOSUID | MountFlag.NOEXEC)
        except OSError as error:
            if error.errno != errno.EINVAL:  # the group is not mapped
                raise
            self._new(b"devpts", b"/dev/pts", terminals, MountFlag.NOSUID | MountFlag.NOEXEC)

    def _new(self, kind: bytes, target: bytes, options: tuple[str, ...], flags: int) -> None:
        self._make_directory(target)
        fsmount.mount_new(kind, target, options, flags)
        self._undo.append((_unmount, target))

    def _place(self, target: bytes, mount: int) -> None:
        """Attach a mount of the host on a file or directory, as it is one itself."""
        if stat.S_ISDIR(os.fstat(mount).st_mode):
            self._make_directory(target)
        elif not self._make_file(target):
            return
        fsmount.attach(mount, target)
        self._undo.append((_unmount, target))

    def _make_directory(self, path: bytes) -> None:
        if not os.path.isdir(path):
            os.mkdir(path, 0o755)
            self._undo.append((_remove_empty, path))

    def _make_file(self, path: bytes) -> bool:
        """Make sure of a file to mount on, behind symlinks too; tell whether there is one."""
        path = os.path.realpath(path)
        # No directory to make it in, or (without root) one of somebody who is not mapped: then it is left out.
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            if not os.path.exists(path):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
                self._undo.append((_remove_empty, path))
            return True
        return False


def _unmount(target: bytes) -> None:
    unmount(target, lazy=True)


def _remove_empty(path: bytes) -> None:
    """Remove a directory or file that we made, unless the command filled it or took it away."""
    try:
        if os.path.isdir(path):
            os.rmdir(path)
        elif os.path.getsize(path) == 0:
            os.unlink(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise


def _host_parts() -> list[tuple[bytes, int]]:
    """Return copies of the host's mounts that the tree gets, each with its place; what the host lacks is left out."""
    found = [(b"/dev/" + name, _copy(b"/dev/" + name)) for name in DEVICES]
    found.append((b"/dev/console", _terminal()))
    found.append((RESOLVER, _copy(RESOLVER, MountFlag.RDONLY)))
    found.append((b"/sys", _copy(b"/sys", MountFlag.RDONLY, recursive=True)))
    return [(target, mount) for target, mount in found if mount is not None]


def _terminal() -> int | None:
    """Return our terminal's node, which ttyname(3) finds at /dev/console; the new /dev/pts does not have it."""
    for fd in range(3):
        with suppress(OSError):
            return _copy(os.fsencode(os.ttyname(fd)))
    return None


def _copy(path: bytes, flags: int = MountFlag.NONE, *, recursive: bool = False) -> int | None:
    """Return a detached mount of `path`, or None where there is none or it may not be shown."""
    try:
        mount = fsmount.clone_tree(path, recursive=recursive)
    except (FileNotFoundError, PermissionError):
        return None
    if flags:
        try:
            fsmount.set_attributes(mount, flags, recursive=recursive)
        except OSError:  # not to be had read-only: then not at all
            os.close(mount)
            return None
    return mount
