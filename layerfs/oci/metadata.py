"""Owner, mode, xattrs and times of what a layer brings, set in an order in which no call undoes another.

write, chown (it clears setuid and capabilities), chmod, xattrs (an ACL's mask would follow a later chmod), times.
"""

import errno
import os
import stat
from collections.abc import Callable
from enum import Enum
from typing import Final

from layerfs.errors import Unsupported
from layerfs.oci.tar import Member
from layerfs.oci.target import Outcome

OVERRIDE: Final = b"user.containers.override_stat"
_REFUSED: Final = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL)
# What a user namespace, a filesystem or a security module may refuse, and images live without (podman has the same list
# but for trusted.*, which only the host's root can set).
_WAIVED: Final = (b"security.", b"trusted.", b"system.")
_TYPES: Final = {stat.S_IFCHR: b"char", stat.S_IFBLK: b"block", stat.S_IFIFO: b"pipe"}

SetXattr = Callable[[bytes, bytes], None]


class Ownership(Enum):
    """How owners are kept: by chown(2), or in the xattr user.containers.override_stat beside what is on disk."""

    CHOWN = "chown"
    OVERRIDE = "override"


def usual_ownership() -> Ownership:
    """Return what this process can do: root, also root of a user namespace, calls chown; others write the xattr."""
    return Ownership.CHOWN if os.geteuid() == 0 else Ownership.OVERRIDE


class MetadataSetter:
    """Sets the owner, mode, xattrs and times of one target's files and directories as their entries say."""

    def __init__(self, ownership: Ownership, outcome: Outcome) -> None:
        self.override = ownership is Ownership.OVERRIDE
        self._outcome = outcome

    def set_open(self, fd: int, member: Member) -> None:
        """Set the metadata of a regular file or directory, except its time."""
        if self.override:
            self._by_override(fd, member)
        else:
            try:
                os.fchown(fd, member.uid, member.gid)
            except OSError as error:
                raise owner_refused(error, member) from None
            os.fchmod(fd, member.mode)
        if member.xattrs:
            self._xattrs(member, lambda name, value: os.setxattr(fd, name, value))

    def _by_override(self, fd: int, member: Member) -> None:
        """Write owner and mode into the xattr; on disk the file keeps a mode with which we can go on working."""
        ours = 0o700 if member.kind == stat.S_IFDIR else 0o600
        os.fchmod(fd, member.mode & 0o755 | ours)  # who may write to a file could say who owns it
        os.setxattr(fd, OVERRIDE, override_value(member))

    def set_named(self, at: int, name: bytes, member: Member) -> None:
        """Set the metadata of a symlink, device or FIFO, its time included."""
        path = b"/proc/self/fd/%d/%s" % (at, name)
        if not self.override:
            try:
                os.chown(name, member.uid, member.gid, dir_fd=at, follow_symlinks=False)
            except OSError as error:
                raise owner_refused(error, member) from None
            if member.kind != stat.S_IFLNK:
                os.chmod(path, member.mode)
        if member.xattrs:
            self._xattrs(member, lambda key, value: os.setxattr(path, key, value, follow_symlinks=False))
        os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=at, follow_symlinks=False)

    def _xattrs(self, member: Member, setxattr: SetXattr) -> None:
        for name, value in member.xattrs.items():
            try:
                setxattr(name, value)
            except OSError as error:
                if error.errno not in _REFUSED or not name.startswith(_WAIVED):
                    raise OSError(error.errno, f"xattr {name!r}: {error.strerror}", member.path) from None
                self._outcome.waive(member.path, f"its xattr {os.fsdecode(name)} is left out: {error.strerror}")


def override_value(member: Member) -> bytes:
    """Return what the override xattr says of an entry: owner, mode, and the type where the file on disk has another."""
    text = b"%d:%d:0%o" % (member.uid, member.gid, member.mode)
    kind = _TYPES.get(member.kind)
    if kind in (b"char", b"block"):
        return b"%s:%s-%d-%d" % (text, kind, member.major, member.minor)
    return b"%s:%s" % (text, kind) if kind else text


def owner_refused(error: OSError, member: Member) -> Exception:
    """Return the error to raise where an owner cannot be set, with a next step for the user."""
    if error.errno not in (errno.EPERM, errno.EINVAL):
        return error
    return Unsupported(
        f"/{os.fsdecode(member.path)} belongs to {member.uid}:{member.gid}, which this user namespace does not have",
        "give the user more subordinate ids in /etc/subuid and /etc/subgid",
    )
