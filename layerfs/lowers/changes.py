"""What an upper changes: the merged tree with it, compared with the merged tree without it.

Both are unions as they serve mounts, so every form of whiteout, opaque directory and redirect counts as it does there.
Directories made of the same layers in both are not entered: the cost grows with the upper, not with the stack.

Without lowers nothing can be compared, and `changes_by_marks` reads the upper's marks alone.
"""

import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Final

from layerfs.lowers.kinds import opener
from layerfs.model import Stack
from layerfs.union.handles import Handles
from layerfs.union.inodes import Directory, Node
from layerfs.union.layers import DirTree, Kind, Part, xattrs
from layerfs.union.options import UnionOptions
from layerfs.union.state import Attributes
from layerfs.union.union import Union
from layerfs.union.whiteout import OPAQUE_FILES, WH

OPEN: Final = 1024  # directories of a bare upper that are open at once
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
class PathChange:
    """One changed path, from the root of the tree."""

    path: bytes
    action: Action


def changes(upper: bytes, lowers: tuple[bytes, ...], offset: int = 0) -> list[PathChange]:
    """Return what `upper` changes of `lowers` (top first; their images begin at `offset`), sorted by path.

    A file counts as modified once it was copied up; a directory when its owner, mode or xattrs differ.
    """
    return compare(Stack(lowers, offset=offset), Stack((upper, *lowers), offset=offset))


def compare(before: Stack, after: Stack, *, copies: bool = False) -> list[PathChange]:
    """Return what is different in the tree of one stack of lowers and in that of another, sorted by path.

    A file is the same if it is the same object of the same layer. Where the trees are `copies`, which share no objects,
    it is the same if type, mode, owner, size, mtime, device, link target and xattrs are.
    """
    with (
        closing(Union.open(before, UnionOptions(), open_tree=opener(before))) as old,
        closing(Union.open(after, UnionOptions(), open_tree=opener(after))) as new,
    ):
        return sorted(_Comparison(old, new, copies).changes(), key=lambda change: change.path)


class _Frame:
    """One directory of a walk through both trees: its path, what it was (if it was one), what it is, names to come."""

    __slots__ = ("held", "names", "new", "old", "path", "were")

    def __init__(self, path: bytes, old: Directory | None, new: Directory, held: ExitStack) -> None:
        self.path, self.old, self.new, self.held = path, old, new, held
        self.names: list[bytes] = []
        self.were: set[bytes] = set()


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Two trees on a walk through both at once."""

    before: Union
    after: Union
    copies: bool = False

    def changes(self) -> Iterator[PathChange]:
        """Yield all changes, the root's first."""
        old, new = self.before.root(), self.after.root()
        if self._differs(old, new):
            yield PathChange(b"/", Action.MODIFIED)
        frames = [self._enter(_Frame(b"", old, new, ExitStack()))]
        yield from self._deleted(frames[0])
        try:
            while frames:
                frame = frames[-1]
                if not frame.names:
                    frames.pop().held.close()
                    continue
                path, found, inside = self._name(frame, frame.names.pop())
                if found is not None:
                    yield PathChange(path, found)
                if inside is not None:
                    frames.append(inside)
                    yield from self._deleted(self._enter(inside))
        finally:
            for frame in reversed(frames):
                frame.held.close()

    def _enter(self, frame: _Frame) -> _Frame:
        frame.names = list(self.after.names(frame.new.ino))
        frame.were = set(self.before.names(frame.old.ino)) if frame.old is not None else set()
        return frame

    def _deleted(self, frame: _Frame) -> Iterator[PathChange]:
        """Yield what a directory has lost."""
        for name in frame.were.difference(frame.names):
            yield PathChange(frame.path + b"/" + name, Action.DELETED)

    def _name(self, frame: _Frame, name: bytes) -> tuple[bytes, Action | None, _Frame | None]:
        """Return the path of one name, what became of it, and the directory that is to be entered there."""
        path, held = frame.path + b"/" + name, ExitStack()
        try:
            old, new = None, held.enter_context(_held(self.after, frame.new, name))
            action: Action | None = Action.ADDED
            if frame.old is not None and name in frame.were:
                old = held.enter_context(_held(self.before, frame.old, name))
                if self._is_same(old[0], new[0]):
                    return path, None, None
                action = Action.MODIFIED if self._is_changed(old, new) else None
            if isinstance(new[0], Directory):
                was = old[0] if old is not None and isinstance(old[0], Directory) else None
                return path, action, _Frame(path, was, new[0], held.pop_all())
            return path, action, None
        finally:
            held.close()

    def _is_same(self, old: Node, new: Node) -> bool:
        """Tell whether two directories are made of the same layers: then there is nothing to see in them."""
        if not isinstance(old, Directory) or not isinstance(new, Directory):
            return False
        return self.before.origins(old.ino) == self.after.origins(new.ino)

    def _is_changed(self, old: tuple[Node, Attributes], new: tuple[Node, Attributes]) -> bool:
        """Tell whether what is at a name in both trees is not the same."""
        if isinstance(old[0], Directory) and isinstance(new[0], Directory):
            return self._differs(old[0], new[0])
        if isinstance(old[0], Directory) or isinstance(new[0], Directory):
            return True
        if self.copies:
            return _look(self.before, *old) != _look(self.after, *new)
        return _identity(old[1]) != _identity(new[1])

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


def _look(union: Union, node: Node, shown: Attributes) -> tuple[object, ...]:
    """Return what a file looks like; links are not counted, since a layer says nothing of other names."""
    target = union.readlink(node.ino) if stat.S_ISLNK(shown.st_mode) else b""
    return *_own(union, node), shown.st_size, shown.st_mtime_ns, shown.st_rdev, target


def _own(union: Union, node: Node) -> tuple[int, int, int, dict[bytes, bytes]]:
    shown = union.attributes(node.ino)
    found = {name: union.get_xattr(node.ino, name) for name in union.list_xattrs(node.ino)}
    return shown.st_mode, shown.st_uid, shown.st_gid, found


def changes_by_marks(upper: bytes) -> list[PathChange]:
    """Return what a bare upper seems to change, sorted by path.

    What bears the mark of a copy-up is modified (a directory then goes unmentioned: most are there for what is in
    them), what does not is added; names that only an opaque directory hides are not known.
    """
    with closing(DirTree(upper, 0)) as tree, closing(Handles(OPEN)) as handles:
        return sorted(_changes_of_marks(tree, handles), key=lambda change: change.path)


def _changes_of_marks(tree: DirTree, handles: Handles) -> Iterator[PathChange]:
    """Yield the changes of all directories; few of them are open at a time, however deep they are."""
    pending = [(Part(tree, None, b"", tree.root()), b"")]
    while pending:
        part, path = pending.pop()
        handle = handles.fd(part)
        for name, kind in tree.scan(handle, xattr_whiteouts=tree.marks(handle).xattr_whiteouts):
            below = path + b"/" + name
            if name in OPAQUE_FILES:
                continue
            if name.startswith(WH):
                yield PathChange(path + b"/" + name[len(WH) :], Action.DELETED)
            elif kind is Kind.WHITEOUT:
                yield PathChange(below, Action.DELETED)
            elif kind is Kind.DIRECTORY:
                pending.append((Part(tree, part, name), below))
                if not _is_copy(tree, handle, name) or _is_redirected(tree, handle, name):
                    yield PathChange(below, Action.ADDED)
            else:
                yield PathChange(below, Action.MODIFIED if _is_copy(tree, handle, name) else Action.ADDED)


def _is_copy(tree: DirTree, at: int, name: bytes) -> bool:
    """Tell whether an object was copied up."""
    return not _ORIGINS.isdisjoint(xattrs(tree, tree.reach(at, name)))


def _is_redirected(tree: DirTree, at: int, name: bytes) -> bool:
    """Tell whether a directory was renamed to where it is."""
    handle = tree.open_dir(at, name)
    try:
        return tree.marks(handle).redirect is not None
    finally:
        tree.close_dir(handle)
