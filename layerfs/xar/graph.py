"""The packages that layers depend on, and the order in which all of them are stacked.

A package is identified by its content: a file reached under two names, or a copy with the same bytes, counts once. A
layer that was named by the user is the answer to every dependency on its base name; the others are searched
(search.py). Directories and bare squashfs images are layers like the rest, which depend on nothing.

How the order is computed. Above and below are given by two rules:

    a dependant stands above what it depends on
    layers that were named stand in the order in which they were named

Packages are numbered as they are met on a walk that goes through the named layers in order, and from each package
first into its DEPENDENCIES, in order (depth first). Then the stack is built from the top: next comes always the package
of the lowest number above which nothing is missing any more. So A -> B -> D -> F, A -> C -> E -> F is stacked
A B D C E F; the order follows from the headers and the arguments alone, and two packages that do not depend on each
other stand in the order in which they are met, unless a third one comes between.

Nothing here recurses: a chain of a thousand packages is as good as one of three.
"""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from layerfs.errors import InvalidArgument, NotFound
from layerfs.xar.header import Header, read_header
from layerfs.xar.image_file import is_xar, open_image
from layerfs.xar.order import DependencyGraph
from layerfs.xar.search import Candidate, MissingPackage, Search, ambiguous


@dataclass(frozen=True, slots=True)
class GraphMember:
    """One layer: `path` is absolute, `name` its last part, `given` says that the user named it.

    `header` is None for a directory and for a bare squashfs image. `identity` is (st_dev, st_ino), `size` in bytes.
    """

    name: bytes
    path: bytes
    given: bool
    header: Header | None
    identity: tuple[int, int]
    size: int
    directory: bool

    @property
    def dependencies(self) -> tuple[bytes, ...]:
        """The base names in DEPENDENCIES, in order."""
        return tuple(map(os.fsencode, self.header.dependencies)) if self.header else ()


@dataclass(frozen=True, slots=True)
class Resolution:
    """All packages in the order of the stack, top first; `depends` has for each of them, by name, which it depends on.

    These are indexes into `members`, in the order of DEPENDENCIES.
    """

    members: tuple[GraphMember, ...]
    depends: tuple[Mapping[bytes, int], ...]

    @property
    def lowers(self) -> tuple[bytes, ...]:
        """The paths to mount, top first."""
        return tuple(member.path for member in self.members)

    @property
    def pulled(self) -> tuple[GraphMember, ...]:
        """The packages that nobody named: they are here because something depends on them."""
        return tuple(member for member in self.members if not member.given)

    @property
    def connected(self) -> tuple[GraphMember, ...]:
        """The packages that depend on another one, or that another one depends on."""
        inner = {index for depends in self.depends for index in depends.values()}
        return tuple(m for index, m in enumerate(self.members) if index in inner or self.depends[index])


def resolve(lowers: Sequence[bytes], search: Search) -> Resolution:
    """Return the stack of some layers [absolute paths, top first] with all that they depend on.

    Raises NotFound for a layer that is not there and for missing packages, all of them by name; InvalidArgument for an
    ambiguous package, a cycle, and layers named in an order that their dependencies forbid; Corrupt for a bad header.
    """
    walk = _Walk(search)
    given = [walk.give(path) for path in lowers]
    walk.walk(given)
    edges = {index: list(dict.fromkeys(depends.values())) for index, depends in walk.depends.items()}
    order = DependencyGraph(edges, given, [os.fsdecode(member.name) for member in walk.members]).order()
    place = {index: number for number, index in enumerate(order)}
    depends = tuple({name: place[below] for name, below in walk.depends[index].items()} for index in order)
    return Resolution(tuple(walk.members[index] for index in order), depends)


def read_member(path: bytes, *, given: bool) -> GraphMember:
    """Return the package at a path. Raises NotFound, NotImage, Corrupt (a bad XAR header), OSError."""
    try:
        st = os.stat(path)
    except FileNotFoundError:
        raise NotFound(f"layer {os.fsdecode(path)} is not there", "check the path") from None
    header = None if stat.S_ISDIR(st.st_mode) else _header(path)
    identity = (st.st_dev, st.st_ino)
    return GraphMember(os.path.basename(path), path, given, header, identity, st.st_size, stat.S_ISDIR(st.st_mode))


def _header(path: bytes) -> Header | None:
    """Return a XAR's header; None for any other file, which is judged when it is opened as a layer."""
    fd = open_image(path)
    try:
        return read_header(fd, path) if is_xar(fd) else None
    finally:
        os.close(fd)


class _Walk:
    """Packages as they are met, by number, and what each means by the names it depends on."""

    def __init__(self, search: Search) -> None:
        self.members: list[GraphMember] = []
        self.depends: dict[int, dict[bytes, int]] = {}  # in the order of the walk
        self._search = search
        self._missing: list[MissingPackage] = []
        self._given: dict[bytes, list[int]] = {}  # base name -> files that the user named
        self._chosen: dict[bytes, tuple[int, int]] = {}  # base name -> what it means, and to whom first
        self._identities: dict[tuple[int, int], int] = {}
        self._twins: dict[tuple[int, Header | None], list[int]] = {}

    def give(self, path: bytes) -> int:
        """Take a layer that the user named."""
        package = read_member(path, given=True)
        if package.identity in self._identities:
            raise InvalidArgument(f"layer {os.fsdecode(path)} is given twice", "name each layer once")
        index = self._add(package)
        if not package.directory:
            self._given.setdefault(package.name, []).append(index)
        return index

    def walk(self, given: Iterable[int]) -> None:
        """Find everything that the named layers depend on, depth first: in the order of `depends`."""
        stack = list(given)[::-1]
        while stack:
            index = stack.pop()
            if index not in self.depends:
                self.depends[index] = self._dependencies(index)
                stack.extend(reversed(self.depends[index].values()))
        if self._missing:
            raise MissingPackage.of_all(self._missing)

    def _dependencies(self, index: int) -> dict[bytes, int]:
        found = {}
        for name in self.members[index].dependencies:
            try:
                found[name] = self._dependency(index, name)
            except MissingPackage as error:
                self._missing.append(error)
        return found

    def _dependency(self, dependant: int, name: bytes) -> int:
        """Return the package that a dependant means by a name; all dependants must mean the same one."""
        if name in self._given:
            return self._only(name)
        path = self._search.find(name, self.members[dependant].path)
        index = self._known(read_member(path, given=False))
        chosen, first = self._chosen.setdefault(name, (index, dependant))
        if chosen != index:
            users = " and ".join(os.fsdecode(self.members[user].name) for user in (first, dependant))
            what = f"{os.fsdecode(name)}, which {users} depend on,"
            raise ambiguous(what, [_candidate(self.members[chosen]), _candidate(self.members[index])])
        return index

    def _only(self, name: bytes) -> int:
        """Return the layer of a name among those that the user named."""
        first, *others = (_candidate(self.members[index]) for index in self._given[name])
        if any(not self._search.equal(first, other) for other in others):
            raise ambiguous(f"{os.fsdecode(name)}, which is given twice,", [first, *others])
        return self._given[name][0]

    def _known(self, package: GraphMember) -> int:
        """Return the number of a package's content, new or not."""
        index = self._identities.get(package.identity)
        if index is None:
            twins = self._twins.get((package.size, package.header), [])
            mine = _candidate(package)
            index = next((i for i in twins if self._search.equal(mine, _candidate(self.members[i]))), None)
        return self._add(package) if index is None else index

    def _add(self, package: GraphMember) -> int:
        self.members.append(package)
        index = len(self.members) - 1
        self._identities[package.identity] = index
        if not package.directory:
            self._twins.setdefault((package.size, package.header), []).append(index)
        return index


def _candidate(package: GraphMember) -> Candidate:
    return Candidate(package.path, package.identity, package.size)
