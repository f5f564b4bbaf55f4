"""Directories that no other user can exchange: every step of a path is seen before it is used, or anything is made.

A path is walked from `/`, each step opened from the one before. A step must belong to root or to us, and be closed to
others; a sticky one, such as /tmp, will do, where what is in it is ours or root's. A symlink is followed by hand, if it
lies in such a directory and is ours or root's. A filesystem that another user serves says of its files whatever it
likes, so FUSE mounts count only if root or we mounted them.

Who has seen a path so may use it afterwards: nobody else can give one of its names to another directory.
"""

import errno
import os
import stat
from typing import NamedTuple

from layerfs.sys.files import content

LINKS = 40  # symlinks on the way, as the kernel's MAXSYMLINKS
STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PIN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Untrusted(PermissionError):
    """A step of a path that another user may change; `filename` is the step, `strerror` says why."""

    def __init__(self, why: str, path: bytes) -> None:
        super().__init__(errno.EPERM, why, path)


class Trusted(NamedTuple):
    """A directory that was walked to: an O_PATH descriptor, the caller's, and its path without symlinks."""

    fd: int
    path: bytes


def walk(path: bytes, *, make: int | None = None, sticky: bool = False) -> Trusted:
    """Open a directory [absolute path] by trusted steps; the last one is closed to others too, unless `sticky` will do.

    With `make` it and what is missing above it are made with this mode, whatever the umask is. Raises Untrusted;
    OSError: ENOENT, ENOTDIR, ELOOP.
    """
    walker = _Walker(path)
    try:
        while walker.ahead:
            walker.step(make)
        st = os.fstat(walker.fd)
        why = wrong(st, walker.owners, sticky=sticky)
        if why:
            raise Untrusted(why, walker.path or b"/")
        return Trusted(walker.fd, walker.path or b"/")
    except BaseException:
        os.close(walker.fd)
        raise


def wrong(st: os.stat_result, owners: set[int], *, sticky: bool) -> str:
    """Return what is wrong with a directory in which only these owners may change names; `sticky` will do."""
    facts = f"(owner {st.st_uid}, mode {stat.S_IMODE(st.st_mode):04o})"
    if st.st_uid not in owners:
        return f"belongs to somebody else {facts}"
    if st.st_mode & _OTHERS and not (sticky and st.st_mode & stat.S_ISVTX):
        return f"is open to others {facts}"
    return ""


class _Walker:
    """A walk: `fd` is where it is, `path` how it came there, `ahead` the names to come, the next one last."""

    def __init__(self, path: bytes) -> None:
        self.fd = os.open(b"/", STEP)
        self.path = b""
        self.ahead = path.split(b"/")[::-1]
        self.links = 0
        self.mount = mount_of(self.fd)
        # In a user namespace of one id the system's directories belong to nobody, as / does.
        self.owners = {0, os.geteuid(), os.fstat(self.fd).st_uid}

    def step(self, make: int | None) -> None:
        """Take the next name, which is a directory, a symlink, or to be made."""
        name = self.ahead.pop()
        if name in (b"", b"."):
            return
        path = os.path.dirname(self.path) if name == b".." else b"%s/%s" % (self.path, name)
        fd = self._open(name, path, make)
        try:
            st, mount = self._see(fd, path)
            if not stat.S_ISLNK(st.st_mode):
                self._go(os.dup(fd), path.rstrip(b"/"), mount)
                return
            self.links += 1
            if self.links > LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(b"", dir_fd=fd)
            self.ahead += target.split(b"/")[::-1]
            if target.startswith(b"/"):
                root = os.open(b"/", STEP)
                self._go(root, b"", mount_of(root))
        finally:
            os.close(fd)

    def _open(self, name: bytes, path: bytes, make: int | None) -> int:
        try:
            try:
                return os.open(name, _PIN, dir_fd=self.fd)
            except FileNotFoundError:
                if make is None:
                    raise
                self._make(name, make)
                return os.open(name, _PIN, dir_fd=self.fd)
        except OSError as error:
            error.filename = error.filename if isinstance(error, Untrusted) else path
            raise

    def _make(self, name: bytes, mode: int) -> None:
        try:
            os.mkdir(name, mode, dir_fd=self.fd)
        except FileExistsError:  # somebody was quicker: it is looked at like any other
            return
        os.chmod(name, mode, dir_fd=self.fd)  # the directory it is in was seen: nobody else can exchange it

    def _see(self, fd: int, path: bytes) -> tuple[os.stat_result, int]:
        """Return the state and the mount of a step. It is trusted first, because stat may ask a FUSE server."""
        mount = mount_of(fd)
        why = "" if mount == self.mount else _why_not_served(mount, self.owners)
        if not why:
            st = os.fstat(fd)
            if stat.S_ISLNK(st.st_mode):
                why = "" if st.st_uid in self.owners else f"is a symlink of somebody else's (owner {st.st_uid})"
            elif stat.S_ISDIR(st.st_mode):
                why = wrong(st, self.owners, sticky=True)
            else:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        if why:
            raise Untrusted(why, path)
        return st, mount

    def _go(self, fd: int, path: bytes, mount: int) -> None:
        os.close(self.fd)
        self.fd, self.path, self.mount = fd, path, mount


def mount_of(fd: int) -> int:
    """Return the id of the mount that a descriptor is in; 0 where there is no /proc to say it."""
    try:
        return int(content(f"/proc/self/fdinfo/{fd}").partition(b"mnt_id:")[2].split(maxsplit=1)[0])
    except FileNotFoundError:
        return 0


def _why_not_served(mount: int, owners: set[int]) -> str:
    """Return what is wrong with a mounted filesystem, if another user serves it."""
    line = next((line for line in content("/proc/self/mountinfo").splitlines() if line.startswith(b"%d " % mount)), b"")
    kind, _, rest = line.partition(b" - ")[2].partition(b" ")
    options = rest.rpartition(b" ")[2].split(b",")
    server = next((int(word[8:]) for word in options if word.startswith(b"user_id=")), None)
    if not kind.startswith(b"fuse") or server is None or server in owners:
        return ""
    return f"is a filesystem that another user serves (uid {server})"
