"""Who owns a file: what is on disk against what the mount shows (uidmapping, squash_to_*, xattr_permissions).

The `override_stat` xattrs hold `uid:gid:mode[:type]`, mode in octal, as fuse-overlayfs and containers/storage write
them.
"""

import errno
import os
import stat

from layerfs.sys import dirs, target
from layerfs.union.digits import MAX_ID, MAX_MAJOR, MAX_MINOR, MAX_MODE, decimal, octal
from layerfs.union.layers import Ref, Tree, getxattr_or_none, xattrs
from layerfs.union.options import IdRange, OverrideStat, UnionOptions
from layerfs.union.shown import Attributes, Shown

OVERRIDES = (
    "security.fuseoverlayfs.override_stat",
    "user.containers.override_stat",
    "user.fuseoverlayfs.override_stat",
)
# An id without a mapping: no number of a user. The kernel shows it as its overflow id, and takes nobody for its owner.
NO_ID = (1 << 32) - 1

_NO_OWNER = frozenset((errno.EPERM, errno.EINVAL, errno.EOVERFLOW, errno.EOPNOTSUPP, errno.ENOSYS))
_WRITTEN = {OverrideStat.PRIVILEGED: OVERRIDES[0], OverrideStat.CONTAINERS: OVERRIDES[1]}


class Owners:
    """Translates ownership and mode in both directions."""

    __slots__ = ("identity", "options", "override")

    def __init__(self, options: UnionOptions) -> None:
        self.options = options
        self.override = _WRITTEN.get(options.override_stat)
        self.identity = not (options.uid_map or options.gid_map or options.override_stat or self._squashes)

    @property
    def _squashes(self) -> bool:
        return self.options.squash_uid is not None or self.options.squash_gid is not None

    def adopt(self, tree: Tree) -> None:
        """Note which override xattr a layer uses: the one on its root, if that is trusted there."""
        names = xattrs(tree, tree.reach_dir(tree.root()))
        override = next((name for name in OVERRIDES if name in names), None)
        tree.override = override if self._believes(tree.stat_dir(tree.root())) else None
        if tree.index == 0 and tree.override:  # an upper that was begun with overrides goes on with them
            self.override = tree.override
        if tree.override:
            self.identity = False

    def _believes(self, st: Attributes) -> bool:
        """Tell whether an override xattr on an object counts: everybody who may write to a file can set user.* on it.

        Everywhere if overrides were asked for, else on what only root, or we, may write to (as image stores keep it).
        """
        if self.options.override_stat is not OverrideStat.OFF:
            return True
        ours = st.st_uid in (0, os.geteuid())
        group = not st.st_mode & stat.S_IWGRP or st.st_gid in (0, os.getegid())
        return ours and group and not st.st_mode & stat.S_IWOTH

    def show(self, tree: Tree, ref: Ref, st: Attributes) -> Attributes:
        """Return what the mount shows for a stat of one layer's object, which `ref` reaches."""
        if self.identity:
            return st
        shown = Shown(self.stored(tree, ref, st))
        options = self.options
        shown.st_uid = _inside(options.uid_map, shown.st_uid) if options.squash_uid is None else options.squash_uid
        shown.st_gid = _inside(options.gid_map, shown.st_gid) if options.squash_gid is None else options.squash_gid
        return shown

    def stored(self, tree: Tree, ref: Ref, st: Attributes) -> Attributes:
        """Return the attributes that a layer stores for its object: override xattrs applied, ids not translated."""
        if tree.override is None or stat.S_ISLNK(st.st_mode) or not self._believes(st):
            return st
        shown = Shown(st)
        _apply(shown, self._override_of(tree, ref, st, tree.override))
        return shown

    def _override_of(self, tree: Tree, ref: Ref, st: Attributes, name: str) -> bytes | None:
        """Read the override of this very object: whether it is trusted depends on the object's owner."""
        if not isinstance(ref, dirs.Named) or self.options.override_stat is not OverrideStat.OFF:
            return getxattr_or_none(tree, ref, name)
        at, own = ref.split_name()
        pin = dirs.pin(at, own)
        try:
            now = os.fstat(pin)
            if (now.st_dev, now.st_ino) != (st.st_dev, st.st_ino):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), own)
            return dirs.getxattr_or_none(dirs.held(pin), name)
        finally:
            os.close(pin)

    def write(self, path: dirs.Target, uid: int, gid: int, mode: int) -> bool:
        """Keep owner and mode beside an object; False where none is kept, or its type carries no xattr (FIFOs)."""
        if self.override is None:
            return False
        try:
            target.setxattr(path, self.override, override_value(uid, gid, mode))
        except OSError as error:
            if error.errno != errno.EPERM or stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                raise
            return False
        return True

    def give(self, path: dirs.Target, uid: int, gid: int) -> bool:
        """Set owner and group on disk; -1 leaves one. False where that cannot be done: the server's user owns it then.

        It is no error for a server that is not root, nor where the mount shows owners of its own (squash_to_*): in a
        user namespace of one id nobody can give a file to another.
        """
        try:
            target.chown(path, uid, gid)
        except OSError as error:
            if error.errno not in _NO_OWNER or (os.geteuid() == 0 and not self._squashes):
                raise _overflow(error) from None
            return False
        return True

    def change(self, path: dirs.Target, uid: int, gid: int) -> None:
        """Set owner and group on disk because somebody asked for it; an id that is squashed may stay what it is."""
        try:
            target.chown(path, uid, gid)
        except OSError as error:
            options = self.options
            seen = (uid >= 0 and options.squash_uid is None) or (gid >= 0 and options.squash_gid is None)
            if error.errno not in _NO_OWNER or seen:
                raise _overflow(error) from None

    def outside(self, uid: int, gid: int) -> tuple[int, int]:
        """Return the ids on disk of ids seen in the mount; -1 means "leave it" and stays. EOVERFLOW: not mapped."""
        return _outside(self.options.uid_map, uid), _outside(self.options.gid_map, gid)

    def of_new(self, uid: int, gid: int) -> tuple[int, int]:
        """Return the owner on disk of what somebody makes. EOVERFLOW: not mapped, and not who serves the mount.

        The server's user owns what it makes, mapped or not: podman makes /etc/mtab so in a container of other ids.
        """
        return (
            _outside(self.options.uid_map, uid, os.geteuid()),
            _outside(self.options.gid_map, gid, os.getegid()),
        )


def _overflow(error: OSError) -> OSError:
    """Return the error of a chown(2): EOVERFLOW for an id that the user namespace does not map."""
    return OSError(errno.EOVERFLOW, os.strerror(errno.EOVERFLOW)) if error.errno == errno.EINVAL else error


def override_value(uid: int, gid: int, mode: int) -> bytes:
    """Return the text of an override xattr."""
    return b"%d:%d:%o" % (uid, gid, stat.S_IMODE(mode))


def _apply(shown: Shown, value: bytes | None) -> None:
    """Apply an override that a layer holds; one that is malformed is none."""
    fields = (value or b"").split(b":", 4)
    if len(fields) < 3:
        return
    uid, gid, mode = decimal(fields[0], MAX_ID), decimal(fields[1], MAX_ID), octal(fields[2], MAX_MODE)
    if uid is None or gid is None or mode is None:
        return
    if len(fields) > 3 and not _apply_type(shown, fields[3]):
        return
    shown.st_uid, shown.st_gid = uid, gid
    shown.st_mode = stat.S_IFMT(shown.st_mode) | stat.S_IMODE(mode)


def _apply_type(shown: Shown, kind: bytes) -> bool:
    """Show a device, FIFO or socket that stands on disk as a regular file; False if there is no such device."""
    word, _, numbers = kind.partition(b"-")
    types = {b"char": stat.S_IFCHR, b"block": stat.S_IFBLK, b"pipe": stat.S_IFIFO, b"socket": stat.S_IFSOCK}
    if word not in types or not stat.S_ISREG(shown.st_mode):
        return True
    if numbers:
        first, _, second = numbers.partition(b"-")
        major, minor = decimal(first, MAX_MAJOR), decimal(second, MAX_MINOR)
        if major is None or minor is None:
            return False
        shown.st_rdev = os.makedev(major, minor)
    shown.st_mode = types[word] | stat.S_IMODE(shown.st_mode)
    return True


def _inside(ranges: tuple[IdRange, ...], outside: int) -> int:
    for each in ranges:
        if each.outside <= outside < each.outside + each.count:
            return each.inside + outside - each.outside
    return NO_ID if ranges else outside


def _outside(ranges: tuple[IdRange, ...], inside: int, own: int | None = None) -> int:
    if inside < 0:
        return inside
    for each in ranges:
        if each.inside <= inside < each.inside + each.count:
            return each.outside + inside - each.inside
    if ranges and inside != own:  # as chown(2) on an idmapped mount
        raise OSError(errno.EOVERFLOW, os.strerror(errno.EOVERFLOW))
    return inside
