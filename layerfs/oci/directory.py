"""A directory of the host as the target of a layer: each access is one name in an open directory, no link is followed.

A new regular file costs openat, write, fchown, fchmod, utimensat and close. A directory has mode 0700
until its metadata are set.
"""

import errno
import os
import stat
from collections.abc import Iterator
from typing import Final

from layerfs.errors import Corrupt, InvalidArgument, Unsupported
from layerfs.oci.metadata import OVERRIDE, MetadataSetter, Ownership, override_value
from layerfs.oci.tar import Member
from layerfs.oci.target import CopySource, Data, EntryKind, Outcome, TargetForm, WriteRun, as_stored
from layerfs.snapshots.driver import Nesting
from layerfs.sys import dirs
from layerfs.sys.copy import write_all
from layerfs.union.escape import shown

try:
    from layerfs.batch.batch import Batch as Batch
except ImportError:  # not compiled
    Batch = None  # type: ignore[assignment, misc]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PREFIXES: Final = (b"trusted.overlay.", b"user.overlay.")


class DirectoryTarget:
    """The tree below an open directory, which stays the caller's.

    fresh: an upper must be empty. marks: the prefix of the xattrs that overlays will look for,
    `trusted.overlay.` or `user.overlay.`; None tries. nesting: what they show of overlays in containers.
    """

    def __init__(
        self, root: int, form: TargetForm, *, outcome: Outcome, ownership: Ownership, marks: bytes | None = None,
        fresh: bool = True, nesting: Nesting = Nesting.NONE,
    ) -> None:  # fmt: skip
        self.form = form
        self._root = root
        self._outcome = outcome
        self._metadata = MetadataSetter(ownership, outcome)
        self._marks = marks
        self._nesting = nesting
        self._is_read_by_overlay = form is TargetForm.OVERLAY or self._metadata.override
        if fresh and form is TargetForm.OVERLAY and os.listdir(root):
            raise InvalidArgument("the upper that a layer is applied to is not empty")

    @property
    def write_run(self) -> WriteRun | None:
        if self.form is not TargetForm.OVERLAY or self._metadata.override or Batch is None:
            return None
        return Batch().write

    def root(self) -> int:
        return self._root

    def kind(self, at: int, name: bytes) -> EntryKind:
        st = dirs.lstat_or_none(at, name)
        if st is None:
            return EntryKind.ABSENT
        if stat.S_ISDIR(st.st_mode):
            return EntryKind.DIRECTORY
        if stat.S_ISLNK(st.st_mode):
            return EntryKind.SYMLINK
        return EntryKind.WHITEOUT if self._is_whiteout(at, name, st) else EntryKind.OTHER

    def _is_whiteout(self, at: int, name: bytes, st: os.stat_result) -> bool:
        """Tell whether a status is a whiteout's. No entry can have made one: `add` refuses them."""
        if self.form is not TargetForm.OVERLAY:
            return False
        if stat.S_ISCHR(st.st_mode):
            return st.st_rdev == 0
        if not stat.S_ISREG(st.st_mode) or st.st_size:
            return False
        names = dirs.xattrs(dirs.path_of(at, name))
        return any(f"{os.fsdecode(prefix)}whiteout" in names for prefix in _PREFIXES)

    def enter(self, at: int, name: bytes) -> int:
        try:
            return os.open(name, _DIRECTORY, dir_fd=at)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name) from None
            raise

    def leave(self, handle: int) -> None:
        os.close(handle)

    def names(self, at: int) -> list[bytes]:
        return dirs.names(at)

    def readlink(self, at: int, name: bytes) -> bytes:
        return os.readlink(name, dir_fd=at)

    def mkdir(self, at: int, name: bytes) -> None:
        os.mkdir(name, 0o700, dir_fd=at)

    def remove(self, at: int, name: bytes) -> None:
        dirs.remove(at, name)

    def add(self, at: int, name: bytes, member: Member, data: Data) -> None:
        member = self._stored(member)
        if member.kind == stat.S_IFREG:
            self._add_file(at, name, member, data)
        elif member.kind == stat.S_IFLNK:
            os.symlink(member.target, name, dir_fd=at)
            self._set_metadata_or_remove(at, name, member)
        else:
            self._add_node(at, name, member)

    def _stored(self, member: Member) -> Member:
        return as_stored(member, self._nesting) if self._is_read_by_overlay else member

    def _set_metadata_or_remove(self, at: int, name: bytes, member: Member) -> None:
        try:
            self._metadata.set_named(at, name, member)
        except BaseException:
            os.unlink(name, dir_fd=at)
            raise

    def _add_file(self, at: int, name: bytes, member: Member, data: Data) -> None:
        fd = os.open(name, _NEW, 0o600, dir_fd=at)
        try:
            if isinstance(data, CopySource) and member.size:
                data.copy_to(fd)
            elif member.extents is not None:
                _write_extents(fd, member, data())
            else:
                for piece in data():
                    done = os.write(fd, piece)
                    while done < len(piece):
                        done += os.write(fd, piece[done:])
            self._metadata.set_open(fd, member)
            os.utime(fd, ns=(member.mtime_ns, member.mtime_ns))
        finally:
            os.close(fd)

    def _add_node(self, at: int, name: bytes, member: Member) -> None:
        device = 0
        if member.kind != stat.S_IFIFO:
            device = _device(member)
        if self._metadata.override:  # a FIFO carries no user xattr
            return self._add_stand_in(at, name, member)
        try:
            os.mknod(name, member.kind | 0o600, device, dir_fd=at)
        except PermissionError as error:
            if member.kind == stat.S_IFIFO:
                raise
            return self._outcome.waive(member.path, f"is a device, which cannot be made here: {error.strerror}")
        self._set_metadata_or_remove(at, name, member)

    def _add_stand_in(self, at: int, name: bytes, member: Member) -> None:
        """Make the empty file that stands for a device or FIFO where owners are kept in xattrs."""
        fd = os.open(name, _NEW, 0o600, dir_fd=at)
        try:
            self._metadata.set_open(fd, member)
            os.utime(fd, ns=(member.mtime_ns, member.mtime_ns))
        finally:
            os.close(fd)

    def set_metadata(self, handle: int, member: Member) -> None:
        member = self._stored(member)
        for name in map(os.fsencode, dirs.xattrs(handle)):
            if name not in member.xattrs and self._is_content(name):
                os.removexattr(handle, name)
        self._metadata.set_open(handle, member)

    def _is_content(self, name: bytes) -> bool:
        if name.startswith(b"security.selinux"):
            return False
        return not self._is_read_by_overlay or shown(os.fsdecode(name)) is not None

    def time(self, handle: int) -> int:
        return os.fstat(handle).st_mtime_ns

    def set_time(self, handle: int, mtime_ns: int) -> None:
        os.utime(handle, ns=(mtime_ns, mtime_ns))

    def hold(self, at: int, name: bytes) -> int | None:
        try:
            return dirs.pin(at, name)
        except FileNotFoundError:
            return None

    def drop(self, held: int) -> None:
        os.close(held)

    def link(self, held: int, at: int, name: bytes) -> None:
        # /proc/self/fd/N leads to the object itself, a symlink too; no name of it can be exchanged meanwhile.
        os.link(b"/proc/self/fd/%d" % held, name, dst_dir_fd=at, follow_symlinks=True)

    def same(self, held: int, at: int, name: bytes) -> bool:
        st = dirs.lstat_or_none(at, name)
        own = os.fstat(held)
        return st is not None and (st.st_dev, st.st_ino) == (own.st_dev, own.st_ino)

    def whiteout(self, at: int, name: bytes) -> None:
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=at)
        except PermissionError:
            self._whiteout_by_xattr(at, name)

    def _whiteout_by_xattr(self, at: int, name: bytes) -> None:
        """Kernel >= 6.7: an empty file with an xattr, in a directory that says so; where no device can be made."""
        if self.is_opaque(at):  # nothing shines through there anyway
            return
        self._mark(at, b"opaque", b"x")
        fd = os.open(name, _NEW, 0o600, dir_fd=at)
        try:
            self._mark(fd, b"whiteout", b"y")
        finally:
            os.close(fd)

    def set_opaque(self, handle: int) -> None:
        if self._opaque(handle) == b"x":  # what is marked there would become files
            for name in self.names(handle):
                if self.kind(handle, name) is EntryKind.WHITEOUT:
                    os.unlink(name, dir_fd=handle)
        self._mark(handle, b"opaque", b"y")

    def is_opaque(self, handle: int) -> bool:
        return self._opaque(handle) == b"y"

    def _opaque(self, handle: int) -> bytes | None:
        values = (dirs.getxattr_or_none(handle, os.fsdecode(prefix + b"opaque")) for prefix in _PREFIXES)
        return next((value for value in values if value is not None), None)

    def _mark(self, fd: int, key: bytes, value: bytes) -> None:
        for prefix in _PREFIXES if self._marks is None else (self._marks,):
            try:
                os.setxattr(fd, prefix + key, value)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                    raise
                continue
            self._marks = prefix
            return
        raise Unsupported("the upper cannot carry an overlay's marks", "use a filesystem with xattrs: ext4, xfs, btrfs")

    def finish(self, outcome: Outcome) -> None:
        """Say on the root that owners are kept in xattrs: readers look there."""
        if self._metadata.override and dirs.getxattr_or_none(self._root, os.fsdecode(OVERRIDE)) is None:
            os.setxattr(self._root, OVERRIDE, override_value(Member(b"", stat.S_IFDIR, 0o755, 0, 0, 0)))


def _device(member: Member) -> int:
    if not (0 <= member.major < 1 << 12 and 0 <= member.minor < 1 << 20):  # what the kernel has (linux/kdev_t.h)
        raise Corrupt(f"/{os.fsdecode(member.path)} is the device {member.major}/{member.minor}, which cannot be")
    return os.makedev(member.major, member.minor)


def _write_extents(fd: int, member: Member, data: Iterator[memoryview]) -> None:
    os.ftruncate(fd, member.size)
    piece = memoryview(b"")
    for offset, length in member.extents or ():
        while length:
            piece = piece or next(data)
            now, piece = piece[:length], piece[length:]
            write_all(fd, now, offset)
            offset, length = offset + len(now), length - len(now)
