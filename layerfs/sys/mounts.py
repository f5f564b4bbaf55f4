"""Mounting and unmounting: mount(2), umount2(2), bind mounts. What is mounted is read by `layerfs.sys.mountinfo`.

`Mount` values of all types but overlay are acted on here. Kernel overlayfs is in `layerfs.sys.overlay`.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntFlag

from layerfs.model import Mount
from layerfs.sys.libc import call
from layerfs.sys.mountinfo import MountInfo as MountInfo
from layerfs.sys.mountinfo import lines_of
from layerfs.sys.mountinfo import mountinfo as mountinfo
from layerfs.sys.mountinfo import parse_mountinfo as parse_mountinfo

UMOUNT_NOFOLLOW = 8
MNT_DETACH = 2
FUSERMOUNT = "fusermount3"
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Real(bytes):
    """An absolute path that led through no symlink when it was resolved; one that has become one since is ENOTDIR.

    It is walked to step by step, so that nobody who owns a step chooses what is mounted on, or unmounted.
    """


class MountFlag(IntFlag):
    """The flags of mount(2) (linux/mount.h) that a caller may ask for."""

    NONE = 0
    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    SYNCHRONOUS = 16
    REMOUNT = 32
    DIRSYNC = 128
    NOSYMFOLLOW = 256
    NOATIME = 1024
    NODIRATIME = 2048
    BIND = 4096
    REC = 16384
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20
    RELATIME = 1 << 21
    STRICTATIME = 1 << 24
    LAZYTIME = 1 << 25


_SETS = {
    "ro": MountFlag.RDONLY,
    "nosuid": MountFlag.NOSUID,
    "nodev": MountFlag.NODEV,
    "noexec": MountFlag.NOEXEC,
    "sync": MountFlag.SYNCHRONOUS,
    "dirsync": MountFlag.DIRSYNC,
    "nosymfollow": MountFlag.NOSYMFOLLOW,
    "noatime": MountFlag.NOATIME,
    "nodiratime": MountFlag.NODIRATIME,
    "relatime": MountFlag.RELATIME,
    "strictatime": MountFlag.STRICTATIME,
    "lazytime": MountFlag.LAZYTIME,
    "bind": MountFlag.BIND,
    "rbind": MountFlag.BIND | MountFlag.REC,
    "remount": MountFlag.REMOUNT,
}
_CLEARS = {
    "defaults": MountFlag.NONE,
    "rw": MountFlag.RDONLY,
    "suid": MountFlag.NOSUID,
    "dev": MountFlag.NODEV,
    "exec": MountFlag.NOEXEC,
    "async": MountFlag.SYNCHRONOUS,
    "symfollow": MountFlag.NOSYMFOLLOW,
    "atime": MountFlag.NOATIME,
    "diratime": MountFlag.NODIRATIME,
    "norelatime": MountFlag.RELATIME,
    "nostrictatime": MountFlag.STRICTATIME,
    "nolazytime": MountFlag.LAZYTIME,
}


def overlay_upon(directory: bytes) -> MountInfo | None:
    """Return the kernel overlay of this mount namespace that has a directory [real path] as its upper or work.

    The paths stand in mountinfo as they were given: one that was given through a symlink is not found, nor is one of
    over 255 bytes that a kernel before 6.13 was given as /proc/self/fd/N. Nothing is asked of another filesystem.
    """
    if not lines_of((b"overlay",)):
        return None
    entries = mountinfo()
    holds = _holding(entries, directory)
    for entry in entries:
        if entry.type == b"overlay":
            for path in _writable_paths(entry):
                if path == directory or (_holding(entries, path) == holds and _is_same(path, directory)):
                    return entry
    return None


def _writable_paths(overlay: MountInfo) -> set[bytes]:
    """Return the paths of an overlay's upper and work directory, as they are shown and unescaped.

    A mount made with mount(2) shows the escapes that it was given (`layerfs.sys.overlay.escape`).
    """
    words = [word.partition(b"=") for word in overlay.super_options]
    paths = {path for name, _, path in words if name in (b"upperdir", b"workdir")}
    return paths | {re.sub(rb"\\(.)", rb"\1", path, flags=re.DOTALL) for path in paths}


def _holding(entries: list[MountInfo], path: bytes) -> tuple[int, int] | None:
    """Return the device of the mount that a real path is on."""
    above = [entry for entry in entries if (path + b"/").startswith(entry.target.rstrip(b"/") + b"/")]
    return max(above, key=lambda entry: len(entry.target)).device if above else None


def _is_same(path: bytes, directory: bytes) -> bool:
    """Tell whether two paths lead to one directory; False for one that leads through a symlink, which may hang."""
    try:
        with way_to(Real(path)) as one, way_to(Real(directory)) as other:
            return os.path.samestat(os.stat(one), os.stat(other))
    except OSError:
        return False


def parse_generic(options: tuple[str, ...]) -> tuple[MountFlag, tuple[str, ...]]:
    """Split mount options into the flags every filesystem has and what is left for the filesystem; later ones win."""
    flags, rest = MountFlag.NONE, []
    for option in options:
        if option in _SETS:
            flags |= _SETS[option]
        elif option in _CLEARS:
            flags &= ~_CLEARS[option]
        elif option:
            rest.append(option)
    return flags, tuple(rest)


def mount(what: Mount, target: bytes = b"") -> None:
    """Mount a value at `target`, or at its own; raises OSError of mount(2)."""
    flags, rest = parse_generic(what.options)
    source, target = os.fsencode(what.source), target or os.fsencode(what.target)
    if flags & MountFlag.BIND:
        bind(source, target, flags)
    else:
        mount_raw(os.fsencode(what.type), source, target, flags, os.fsencode(",".join(rest)))


def mount_raw(kind: bytes | None, source: bytes | None, target: bytes, flags: int, data: bytes | None = None) -> None:
    """Call mount(2)."""
    with way_to(target) as path:
        call("mount", source, path, kind, int(flags), data, path=target)


def bind(source: bytes, target: bytes, flags: int = MountFlag.NONE) -> None:
    """Show `source` at `target` too (with REC what is mounted below it as well), private, with the flags given.

    mount(2) ignores all flags but REC on a bind, so they are set by a second call; if it fails the bind is undone.
    """
    recursive = flags & MountFlag.REC
    mount_raw(None, source, target, MountFlag.BIND | recursive)
    try:
        make_private(target)
        rest = flags & ~(MountFlag.BIND | MountFlag.REC)
        if rest:
            mount_raw(None, None, target, MountFlag.BIND | MountFlag.REMOUNT | rest)
    except OSError:
        unmount(target, lazy=True)
        raise


def make_private(target: bytes, *, recursive: bool = False) -> None:
    """Stop mounts at `target` from being propagated to or from its peers."""
    mount_raw(None, None, target, MountFlag.PRIVATE | (MountFlag.REC if recursive else MountFlag.NONE))


def unmount(target: bytes, *, lazy: bool = False) -> None:
    """Unmount what is mounted at `target`, never following a symlink; lazily even when it is busy.

    Who may not umount2(2) asks fusermount3, which takes the caller's own FUSE mounts.
    Raises OSError: EINVAL not a mountpoint, EBUSY in use, EPERM somebody else's, ENOENT no such path.
    """
    with _parent_of(target) as (parent, path):
        try:
            call("umount2", path, UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0), path=target)
        except PermissionError:
            _fusermount(target, lazy, parent)


@contextmanager
def way_to(target: bytes) -> Iterator[bytes]:
    """Yield a way to the directory at a path: for a `Real` one a way that nobody can change."""
    fd = _walk(target, target.split(b"/")) if isinstance(target, Real) and _has_proc() else -1
    try:
        yield target if fd < 0 else b"/proc/self/fd/%d" % fd
    finally:
        if fd >= 0:
            os.close(fd)


@contextmanager
def _parent_of(target: bytes) -> Iterator[tuple[bytes | None, bytes]]:
    """Yield the parent of a `Real` path, pinned, and a way through it to what is mounted there; for others no parent.

    The mount itself is not opened: its server may not answer.
    """
    steps = [step for step in target.split(b"/") if step]
    if not isinstance(target, Real) or not steps or not _has_proc():
        yield None, target
        return
    fd = _walk(target, steps[:-1])
    try:
        yield b"/proc/self/fd/%d" % fd, b"/proc/self/fd/%d/%s" % (fd, steps[-1])
    finally:
        os.close(fd)


def _walk(target: bytes, steps: list[bytes]) -> int:
    """Return the directory that steps from the root lead to, none of them through a symlink."""
    fd = os.open(b"/", _STEP)
    try:
        for step in filter(None, steps):
            above, fd = fd, os.open(step, _STEP, dir_fd=fd)
            os.close(above)
        return fd
    except OSError as error:
        os.close(fd)
        error.filename = bytes(target)
        raise


def _has_proc() -> bool:
    return os.path.exists(b"/proc/self/fd")


def let_go(needed: list[bytes]) -> None:
    """Unmount everything in this mount namespace, a private copy of another one, but what `needed` paths lie on.

    Who lives in such a copy would keep alive what others unmount. What came from a namespace with more rights stays
    (mount_namespaces(7), "locked").
    """
    for entry in reversed(mountinfo()):
        inside = entry.target.rstrip(b"/") + b"/"
        if not any((path + b"/").startswith(inside) for path in needed):
            with suppress(OSError):
                call("umount2", entry.target, UMOUNT_NOFOLLOW | MNT_DETACH, path=entry.target)


def _fusermount(target: bytes, lazy: bool, parent: bytes | None) -> None:
    """Unmount a FUSE mount of this user by the setuid program, started in its pinned parent where there is one."""
    import subprocess  # 10 ms that root never pays

    name = target if parent is None else os.path.basename(target)
    command: list[bytes | str] = [FUSERMOUNT, "-u", *(["-z"] if lazy else []), "--", name]
    try:
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, cwd=parent)
    except FileNotFoundError:
        raise PermissionError(errno.EPERM, f"not root, and {FUSERMOUNT} is not installed", target) from None
    if done.returncode:
        raise _refusal(target, os.fsdecode(done.stderr).strip())


def _refusal(target: bytes, said: str) -> OSError:
    """Return the errno that stands for fusermount3's message: it reports failures in no other way."""
    if os.strerror(errno.EBUSY) in said:
        return OSError(errno.EBUSY, os.strerror(errno.EBUSY), target)
    path = os.path.abspath(target)
    if all(entry.target != path for entry in mountinfo()):
        return OSError(errno.EINVAL, "not a mountpoint", target)
    return PermissionError(errno.EPERM, said or os.strerror(errno.EPERM), target)
