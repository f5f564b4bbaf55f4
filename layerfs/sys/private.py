"""Directories that are this user's alone, in places where anybody may have been before us.

The last step to one is the most delicate: in /tmp or /dev/shm anybody may have made our name first, or have mounted a
filesystem over a directory of theirs that says of itself that it is ours. So the parent is walked to by trusted steps
(`layerfs.sys.trust`), and the directory must lie on the parent's own mount, be ours, and be closed to others. Whatever
is wrong with one place, another one is taken: whoever squats a name denies nothing.
"""

import errno
import os
import stat
from collections.abc import Iterator
from typing import Final, NamedTuple

from layerfs.sys.ids import outside_id
from layerfs.sys.trust import STEP, Untrusted, mount_of, walk, wrong

SYSTEM = b"/run"  # only root can have made anything there
SHARED = b"/tmp"
NAME = b"layerfs"
_SPARE = 64  # names of ours in /tmp that are looked at


def own_directory(parent: bytes, name: bytes, *, make: bool) -> bytes:
    """Return the path [without symlinks] of a directory that is ours alone, made (0700) if need be and `make` says so.

    One that was found before is not walked to again: nobody else could have given its names to another (sys/trust.py).
    Raises Untrusted, with the step that somebody else has a hand in; OSError: ENOENT, EACCES.
    """
    root = os.stat(b"/")
    key = (root.st_dev, root.st_ino, parent, name)
    known = _known.get(key)
    if known is not None and known.is_there:
        return known.path
    path = _walk_to(parent, name, make=make)
    found = _identity(path)
    if found.mode & stat.S_IRWXU == stat.S_IRWXU:
        _known[key] = _Known(path, found)
    return path


class _Identity(NamedTuple):
    """What tells a directory from another, and what it permits to whom."""

    device: int
    inode: int
    mode: int
    owner: int
    user: int  # that we are


def _identity(path: bytes) -> _Identity:
    st = os.lstat(path)
    return _Identity(st.st_dev, st.st_ino, st.st_mode, st.st_uid, os.geteuid())


class _Known(NamedTuple):
    """A directory that was seen to be ours alone."""

    path: bytes
    identity: _Identity

    @property
    def is_there(self) -> bool:
        """Whether it is what was seen."""
        try:
            return _identity(self.path) == self.identity
        except OSError:
            return False


_known: Final[dict[tuple[int, int, bytes, bytes], _Known]] = {}


def _walk_to(parent: bytes, name: bytes, *, make: bool) -> bytes:
    """Do what `own_directory` does for the first time."""
    at = walk(parent, sticky=True)
    try:
        path = os.path.join(at.path, name)
        if make:
            try:
                os.mkdir(name, 0o700, dir_fd=at.fd)
            except FileExistsError:
                pass
        _see_ours(at.fd, name, path)
        if make:
            open_to_owner(at.fd, name)
    finally:
        os.close(at.fd)
    return path


def _see_ours(at: int, name: bytes, path: bytes) -> None:
    """Check that a name is a directory of ours on its parent's mount, closed to others; else Untrusted."""
    try:
        fd = os.open(name, STEP, dir_fd=at)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        raise Untrusted("is not a directory", path) from None
    try:
        if mount_of(fd) != mount_of(at):  # whoever serves it is not even asked
            raise Untrusted("has something mounted on it", path)
        why = wrong(os.fstat(fd), {os.geteuid()}, sticky=False)
        if why:
            raise Untrusted(why, path)
    finally:
        os.close(fd)


def open_to_owner(at: int, name: bytes) -> None:
    """Let the owner enter a directory of ours that was made under any umask, by us or by an earlier call."""
    mode = stat.S_IMODE(os.lstat(name, dir_fd=at).st_mode)
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        os.chmod(name, mode | stat.S_IRWXU, dir_fd=at)


def runtime_directory() -> bytes:
    """Return the directory for what is true until the next boot, made if need be; PermissionError if there is none."""
    complaints = []
    for parent, name in _candidates():
        try:
            return own_directory(parent, name, make=True)
        except OSError as error:
            complaints.append(f"{os.fsdecode(os.path.join(parent, name))}: {error.strerror}")
    for found in _spares():
        return found
    spare = _own_name() + b"." + os.urandom(6).hex().encode()
    try:
        return own_directory(SHARED, spare, make=True)
    except OSError as error:
        complaints.append(f"{os.fsdecode(SHARED)}: {error.strerror}")
    raise PermissionError(f"no runtime directory; tried {'; '.join(complaints)}")


def runtime_directories() -> list[bytes]:
    """Return the runtime directories of this user that are there, the one to write first."""
    return list(_existing())


def existing_runtime_directory() -> bytes:
    """Return the first of the runtime directories that are there. Raises FileNotFoundError: there is none."""
    for found in _existing():
        return found
    raise FileNotFoundError(errno.ENOENT, "no runtime directory is there")


def _existing() -> Iterator[bytes]:
    for parent, name in _candidates():
        if _is_absent(parent, name):
            continue
        try:
            found = own_directory(parent, name, make=False)
        except OSError:  # absent, or not ours
            continue
        yield found
    yield from _spares()


def _is_absent(parent: bytes, name: bytes) -> bool:
    """Tell quickly that a directory of the system has no such name; whoever may be mounted there is not asked."""
    if parent not in (SYSTEM, SHARED):
        return False
    try:
        os.readlink(os.path.join(parent, name))
    except FileNotFoundError:
        return True
    except OSError:  # no symlink
        return False
    return False


def _candidates() -> Iterator[tuple[bytes, bytes]]:
    """Yield where a runtime directory may be: parent and name, best first."""
    if os.geteuid() == 0:
        yield SYSTEM, NAME
    runtime = os.environb.get(b"XDG_RUNTIME_DIR", b"")
    if runtime.startswith(b"/"):
        yield runtime, NAME
    yield SHARED, _own_name()


def _own_name() -> bytes:
    """Return our name in a directory that all share; root of a user namespace is somebody else outside."""
    return b"%s-%d" % (NAME, outside_id(os.geteuid()))


def _spares() -> Iterator[bytes]:
    """Yield our directories with other names, made where somebody else had taken our usual name."""
    prefix = _own_name() + b"."
    try:
        with os.scandir(SHARED) as names:
            found = sorted(entry.name for entry in names if entry.name.startswith(prefix))
    except OSError:
        return
    for name in found[:_SPARE]:
        try:
            yield own_directory(SHARED, name, make=False)
        except OSError:  # somebody else's
            continue
