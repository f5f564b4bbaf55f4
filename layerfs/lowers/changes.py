"""What an upper changes: the merged tree with it, compared with the merged tree without it.

Both are unions as they serve mounts, so every form of whiteout, opaque directory and redirect counts as it does there.
Directories made of the same layers in both are not entered: the cost grows with the upper, not with the stack.

Without lowers nothing can be compared, and `surmise` reads the upper's marks alone.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Final

from layerfs.lowers.kinds import open_tree
from layerfs.model import Stack
from layerfs.sys import dirs
from layerfs.union.inodes import Directory, Node
from layerfs.union.layers import DirTree, Kind
from layerfs.union.options import UnionOptions
from layerfs.union.readdir import parts_of
from layerfs.union.state import Attributes
from layerfs.union.union import Union
from layerfs.union.whiteout import OPAQUE_FILES, WH

# What copy-up leaves on a copy: kernel overlayfs, ourselves, fuse-overlayfs.
_ORIGINS: Final = frozenset(
    {
        "trusted.overlay.origin",
        "trusted.overlay.layerfs.ino",
        "user.overlay.origin",
        "user.overlay.layerfs.ino",
        "user.fuseoverlayfs.origin",
    }
)


class Action(Enum):
    """What happened to a path; a deleted directory stands for all that was in it."""

    ADDED = "A"
    MODIFIED = "M"
    DELETED = "D"


@dataclass(frozen=True, slots=True)
class Change:
    """One changed path, from the root of the tree."""

    path: bytes
    action: Action


def changes(upper: bytes, lowers: tuple[bytes, ...]) -> list[Change]:
    """Return what `upper` changes of `lowers` (top first), sorted by path.

    A file counts as modified once it was copied up; a directory when its owner, mode or xattrs differ.
    """
    with (
        closing(Union.open(Stack((upper, *lowers)), UnionOptions(), open_tree=open_tree)) as after,
        closing(Union.open(Stack(lowers), UnionOptions(), open_tree=open_tree)) as before,
    ):
        found = _Comparison(before, after).changes()
        return sorted(found, key=lambda change: change.path)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Two trees on a walk through both at once."""

    before: Union
    after: Union

    def changes(self) -> Iterator[Change]:
        """Yield all changes, the root's first."""
        old, new = self.before.root(), self.after.root()
        if self._differs(old, new):
            yield Change(b"/", Action.MODIFIED)
        yield from self._directory(b"", old, new)

    def _directory(self, path: bytes, old: Directory | None, new: Directory) -> Iterator[Change]:
        """Yield the changes inside a directory; `old` is what it was, if it was one."""
        were = set(self.before.names(old.ino)) if old else set()
        for name in self.after.names(new.ino):
            below = path + b"/" + name
            with ExitStack() as held:
                now = held.enter_context(_held(self.after, new, name))
                if old is not None and name in were:
                    yield from self._both(below, held.enter_context(_held(self.before, old, name)), now)
                else:
                    yield Change(below, Action.ADDED)
                    yield from self._inside(below, None, now[0])
        for name in were.difference(self.after.names(new.ino)):
            yield Change(path + b"/" + name, Action.DELETED)

    def _inside(self, path: bytes, old: Node | None, new: Node) -> Iterator[Change]:
        if isinstance(new, Directory):
            yield from self._directory(path, old if isinstance(old, Directory) else None, new)

    def _both(self, path: bytes, old: tuple[Node, Attributes], new: tuple[Node, Attributes]) -> Iterator[Change]:
        """Yield what became of a name that is in both trees."""
        if isinstance(old[0], Directory) and isinstance(new[0], Directory):
            if _origin(self.before, old[0]) == _origin(self.after, new[0]):
                return
            if self._differs(old[0], new[0]):
                yield Change(path, Action.MODIFIED)
        elif not isinstance(old[0], Directory) and not isinstance(new[0], Directory):
            if _identity(old[1]) != _identity(new[1]):
                yield Change(path, Action.MODIFIED)
        else:
            yield Change(path, Action.MODIFIED)
        yield from self._inside(path, old[0], new[0])

    def _differs(self, old: Directory, new: Directory) -> bool:
        """Tell whether a directory's own owner, mode or xattrs changed (its times change with its entries)."""
        return _own(self.before, old) != _own(self.after, new)


@contextmanager
def _held(union: Union, parent: Directory, name: bytes) -> Iterator[tuple[Node, Attributes]]:
    """Look a name up and forget it at the end: an upper may hold more names than memory should."""
    node, shown = union.lookup(parent.ino, name)
    union.remember(node)
    try:
        yield node, shown
    finally:
        union.forget(node.ino, 1)


def _identity(shown: Attributes) -> tuple[int, int]:
    """Return which object of which layer it is."""
    return shown.st_dev, shown.st_ino


def _origin(union: Union, node: Directory) -> list[tuple[bytes, bytes]]:
    """Return the directories of the layers that a merged directory is made of."""
    parts = [part for part in parts_of(union.ov, node) if part is not None]
    return [(part.tree.path, part.path()) for part in parts]


def _own(union: Union, node: Directory) -> tuple[int, int, int, dict[bytes, bytes]]:
    shown = union.attributes(node.ino)
    xattrs = {name: union.get_xattr(node.ino, name) for name in union.list_xattrs(node.ino)}
    return shown.st_mode, shown.st_uid, shown.st_gid, xattrs


def surmise(upper: bytes) -> list[Change]:
    """Return what a bare upper seems to change, sorted by path.

    What bears the mark of a copy-up is modified (a directory then goes unmentioned: most are there for what is in
    them), what does not is added; names that only an opaque directory hides are not known.
    """
    with closing(DirTree(upper, 0)) as tree:
        return sorted(_surmise(tree, tree.root(), b""), key=lambda change: change.path)


def _surmise(tree: DirTree, handle: int, path: bytes) -> Iterator[Change]:
    marks = tree.marks(handle)
    for name, kind in tree.scan(handle, xattr_whiteouts=marks.xattr_whiteouts):
        if name in OPAQUE_FILES:
            continue
        if name.startswith(WH):
            yield Change(path + b"/" + name[len(WH) :], Action.DELETED)
        elif kind is Kind.WHITEOUT:
            yield Change(path + b"/" + name, Action.DELETED)
        else:
            yield from _surmise_present(tree, handle, name, path + b"/" + name, is_directory=kind is Kind.DIRECTORY)


def _surmise_present(tree: DirTree, at: int, name: bytes, path: bytes, *, is_directory: bool) -> Iterator[Change]:
    copied = not _ORIGINS.isdisjoint(dirs.xattrs(dirs.path_of(at, name)))
    if not is_directory:
        yield Change(path, Action.MODIFIED if copied else Action.ADDED)
        return
    handle = tree.open_dir(at, name)
    try:
        if not copied or tree.marks(handle).redirect is not None:  # redirected: it was renamed to here
            yield Change(path, Action.ADDED)
        yield from _surmise(tree, handle, path)
    finally:
        tree.close_dir(handle)
