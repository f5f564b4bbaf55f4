"""The layers below the one that is being applied: what an entry's meaning can depend on.

What a parent without an entry looks like, whether there is anything to delete, and what a hard link's target holds.
"""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol, Self

from layerfs.errors import Corrupt
from layerfs.model import Stack
from layerfs.oci.tar import Member
from layerfs.oci.view import Seen, View, member_of, pieces_of
from layerfs.sys.namespaces import trusted_xattrs
from layerfs.union import opened
from layerfs.union.options import UnionOptions
from layerfs.union.state import Attributes
from layerfs.union.union import Union

_LINKS: Final = 40  # symlinks that one path may lead through (path_resolution(7))


class Below(View, Protocol):
    """A merged tree, asked by paths whose components are no symlinks."""

    def find(self, path: bytes) -> Member | None:
        """Describe what is at a path; None if nothing is, or if a parent is no directory."""


class UnionBelow:
    """Layers as directories or images, top first, seen through the union.

    They are opened when anything but the root is asked for: the topmost alone says what that is. Most layers of an
    image ask for no more, so an image of many layers does not open all of them for each.
    """

    def __init__(self, lowers: Sequence[bytes], *, metacopy: bool = False) -> None:
        """`metacopy`: whether the topmost is a snapshot's own, whose files may have their data further down."""
        self._lowers = tuple(lowers)
        self._options = UnionOptions(metacopy=metacopy, userxattr=not trusted_xattrs())
        self._opened: Union | None = None
        self._way: list[tuple[bytes, int, Attributes]] = []  # to the path that was asked for last

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the layers."""
        if self._opened is not None:
            self._back_to(0)
            self._opened.close()

    @property
    def _union(self) -> Union:
        if self._opened is None:
            self._opened = _open(self._lowers, self._options)
        return self._opened

    def find(self, path: bytes) -> Member | None:
        if not path and self._opened is None and len(self._lowers) > 1:
            with UnionBelow(self._lowers[:1]) as top:
                return top.find(path)
        seen = self.look(path)
        return None if seen is None else seen.member

    def look(self, path: bytes) -> Seen | None:
        found = self._at(path)
        if found is None:
            return None
        number, st = found
        member = member_of(path, st)
        if stat.S_ISLNK(st.st_mode):
            member.target = self._union.readlink(number)
        member.xattrs = {name: self._union.get_xattr(number, name) for name in self._union.list_xattrs(number)}
        return Seen(member, st)

    def names(self, path: bytes) -> list[bytes]:
        found = self._at(path)
        return self._union.names(found[0]) if found is not None and stat.S_ISDIR(found[1].st_mode) else []

    def data(self, path: bytes) -> Iterator[memoryview]:
        found = self._at(path)
        if found is None or not stat.S_ISREG(found[1].st_mode):
            raise Corrupt(f"{path!r} is no regular file in the layers below")
        self._union.open_file(found[0], os.O_RDONLY)
        try:
            yield from pieces_of(self._union.data_handle(found[0]), 0, found[1].st_size)
        finally:
            self._union.release(found[0])

    def copy_to(self, path: bytes, target: int) -> None:
        """Copy a regular file's bytes into an empty file, reflinked where the filesystem can, holes as holes."""
        found = self._at(path)
        if found is None or not stat.S_ISREG(found[1].st_mode):
            raise Corrupt(f"{path!r} is no regular file in the layers below")
        self._union.open_file(found[0], os.O_RDONLY)
        try:
            opened.copy(self._union.data_handle(found[0]), target, found[1].st_size)
        finally:
            self._union.release(found[0])

    def _at(self, path: bytes) -> tuple[int, Attributes] | None:
        """Walk to a path from the deepest directory that it has in common with the last one."""
        names = path.split(b"/") if path else []
        common = 0
        while common < min(len(names), len(self._way)) and self._way[common][0] == names[common]:
            common += 1
        self._back_to(common)
        root = self._union.root().ino
        number, st = self._way[-1][1:] if self._way else (root, self._union.attributes(root))
        for name in names[common:]:
            if not stat.S_ISDIR(st.st_mode) or name not in self._union.listing(number).names:
                return None
            node, st = self._union.lookup(number, name)
            self._union.remember(node)
            number = node.ino
            self._way.append((name, number, st))
        return number, st

    def _back_to(self, depth: int) -> None:
        while len(self._way) > depth:
            self._union.forget(self._way.pop()[1], 1)


def _open(lowers: tuple[bytes, ...], options: UnionOptions) -> Union:
    from layerfs.lowers.kinds import open_tree

    return Union.open(Stack(lowers), options, open_tree=open_tree)


class NothingBelow:
    """What is below the bottom layer."""

    def find(self, path: bytes) -> Member | None:
        """Find nothing."""
        return None

    def look(self, path: bytes) -> Seen | None:
        """Find nothing."""
        return None

    def names(self, path: bytes) -> list[bytes]:
        """List nothing."""
        return []

    def data(self, path: bytes) -> Iterator[memoryview]:
        """Have no data."""
        raise Corrupt(f"{path!r} is not in the layers below: there are none")


class LateBelow:
    """Layers below that may still be being unpacked: `ready` waits for them once something of them is asked for.

    Nothing is until all entries of the layer above are there, so layers can be applied side by side.
    """

    def __init__(self, ready: Callable[[], Below]) -> None:
        self._ready = ready
        self._below: Below | None = None

    @property
    def below(self) -> Below:
        """The layers, complete."""
        if self._below is None:
            self._below = self._ready()
        return self._below

    def find(self, path: bytes) -> Member | None:
        """Wait and find."""
        return self.below.find(path)

    def look(self, path: bytes) -> Seen | None:
        """Wait and look."""
        return self.below.look(path)

    def names(self, path: bytes) -> list[bytes]:
        """Wait and list."""
        return self.below.names(path)

    def data(self, path: bytes) -> Iterator[memoryview]:
        """Wait and read."""
        return self.below.data(path)


def resolve(tree: Below, path: bytes) -> bytes | None:
    """Follow all symlinks of a path within a tree; None if it leads nowhere. The last part need not be there."""
    done: list[bytes] = []
    links = 0
    stack = path.split(b"/")[::-1]
    while stack:
        part = stack.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            del done[-1:]
            continue
        member = tree.find(b"/".join([*done, part]))
        if member is None and stack:
            return None
        if member is not None and member.kind == stat.S_IFLNK:
            links += 1
            if links > _LINKS:
                return None
            if member.target.startswith(b"/"):
                done = []
            stack += member.target.split(b"/")[::-1]
            continue
        done.append(part)
    return b"/".join(done)
