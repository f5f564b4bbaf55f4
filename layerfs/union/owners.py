"""Who owns a file: what is on disk against what the mount shows (uidmapping, squash_to_*, xattr_permissions).

The `override_stat` xattrs hold `uid:gid:mode[:type]`, mode in octal, as fuse-overlayfs and containers/storage write
them.
"""

import errno
import os
import stat

from layerfs.sys import dirs
from layerfs.union.layers import Ref, Tree, getxattr_or_none, xattrs
from layerfs.union.options import IdRange, OverrideStat, UnionOptions
from layerfs.union.shown import Attributes, Shown

OVERRIDES = (
    "security.fuseoverlayfs.override_stat",
    "user.containers.override_stat",
    "user.fuseoverlayfs.override_stat",
)
OVERFLOW_ID = 65534  # /proc/sys/kernel/overflowuid: what an id without a mapping is shown as

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
        """Note which override a layer's files carry: the one that its root carries."""
        names = xattrs(tree, tree.reach_dir(tree.root()))
        tree.override = next((name for name in OVERRIDES if name in names), None)
        if tree.index == 0 and tree.override:  # an upper that was begun with overrides goes on with them
            self.override = tree.override
        if tree.override:
            self.identity = False

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
        """Return what a layer says of its object, override xattrs counted in, ids not translated."""
        if tree.override is None or stat.S_ISLNK(st.st_mode):
            return st
        shown = Shown(st)
        _apply(shown, getxattr_or_none(tree, ref, tree.override))
        return shown

    def write(self, path: dirs.Target, uid: int, gid: int, mode: int) -> bool:
        """Keep owner and mode beside an object; False where its type carries no such xattr (user.* of a FIFO)."""
        assert self.override is not None
        try:
            os.setxattr(path, self.override, override_value(uid, gid, mode), follow_symlinks=dirs.follows(path))
        except OSError as error:
            if error.errno != errno.EPERM or stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                raise
            return False
        return True

    def outside(self, uid: int, gid: int) -> tuple[int, int]:
        """Return the ids on disk of ids seen in the mount; -1 means "leave it" and stays."""
        return _outside(self.options.uid_map, uid), _outside(self.options.gid_map, gid)


def override_value(uid: int, gid: int, mode: int) -> bytes:
    """Return the text of an override xattr."""
    return b"%d:%d:%o" % (uid, gid, stat.S_IMODE(mode))


def _apply(shown: Shown, value: bytes | None) -> None:
    fields = (value or b"").split(b":")
    if len(fields) < 3 or not all(field.isdigit() for field in fields[:3]) or fields[2].strip(b"01234567"):
        return  # not of our making
    shown.st_uid, shown.st_gid = int(fields[0]), int(fields[1])
    shown.st_mode = stat.S_IFMT(shown.st_mode) | stat.S_IMODE(int(fields[2], 8))
    if len(fields) > 3:
        _apply_type(shown, fields[3])


def _apply_type(shown: Shown, kind: bytes) -> None:
    """Show a device, FIFO or socket that stands on disk as a regular file."""
    word, _, numbers = kind.partition(b"-")
    types = {b"char": stat.S_IFCHR, b"block": stat.S_IFBLK, b"pipe": stat.S_IFIFO, b"socket": stat.S_IFSOCK}
    if word not in types or not stat.S_ISREG(shown.st_mode):
        return
    shown.st_mode = types[word] | stat.S_IMODE(shown.st_mode)
    major, _, minor = numbers.partition(b"-")
    if major.isdigit() and minor.isdigit():
        shown.st_rdev = os.makedev(int(major), int(minor))


def _inside(ranges: tuple[IdRange, ...], outside: int) -> int:
    for each in ranges:
        if each.outside <= outside < each.outside + each.count:
            return each.inside + outside - each.outside
    return OVERFLOW_ID if ranges else outside


def _outside(ranges: tuple[IdRange, ...], inside: int) -> int:
    if inside < 0:
        return inside
    for each in ranges:
        if each.inside <= inside < each.inside + each.count:
            return each.outside + inside - each.inside
    return OVERFLOW_ID if ranges else inside
