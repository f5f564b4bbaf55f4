"""The files behind a graph: a tree that is read as it stands, and which module each of its files belongs to.

The tree is a stranger's: it is read through a `View`, which follows no symlink of it.
"""

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from layerfs.oci.paths import split
from layerfs.oci.view import RawView, Seen, View

UNOWNED: Final = "(unowned)"  # the module that has all directories, and the files that no other module has
ALWAYS: Final = 1.0  # the chance of that module: the time of a directory changes with what is in it
DIRECTORY: Final = 64  # bytes; guessed: what one directory takes in a layer
_LINKS: Final = 40  # symlinks on the way to a path, as the kernel's MAXSYMLINKS


@dataclass(frozen=True, slots=True)
class Claims:
    """What modules own: `files` path by path, `below` all that is in a directory, unless a deeper claim says otherwise.

    Paths are seen from the root of the tree, without a slash before them.
    """

    files: Mapping[bytes, str] = field(default_factory=dict)
    below: Mapping[bytes, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModuleTree:
    """What is packed: the owner of each path that is no directory; all directories; bytes and files of each module."""

    view: View
    owners: Mapping[bytes, str]
    directories: tuple[bytes, ...]
    sizes: Mapping[str, tuple[int, int]]


def walk(view: View) -> Iterator[Seen]:
    """Yield everything in a tree: the root first, each directory before what is in it, names sorted.

    A directory of the host is left where another filesystem is mounted: /proc is not walked.
    """
    waiting = [b""]
    device = None
    while waiting:
        path = waiting.pop()
        seen = view.look(path)
        if seen is None:  # gone meanwhile
            continue
        yield seen
        if device is None:
            device = seen.status.st_dev
        if seen.member.kind == stat.S_IFDIR and (seen.status.st_dev == device or not isinstance(view, RawView)):
            prefix = path + b"/" if path else b""
            waiting += [prefix + name for name in sorted(view.names(path), reverse=True)]


def make_tree(view: View, claims: Claims, *, collect: bool = True) -> ModuleTree:
    """Return the tree of what modules claim; files that no module claims are UNOWNED, or left out.

    All names of one file belong to one module: that of the first name which a module claims. Without `collect` only
    the directories on the way to what is claimed are taken. Sockets are left out: without a listener they are useless.
    """
    owners: dict[bytes, str] = {}
    bodies: dict[bytes, int] = {}
    names: dict[tuple[int, int], list[bytes]] = {}  # of files that have several
    inherited: dict[bytes, str] = {}
    directories = []
    for seen in walk(view):
        path = seen.member.path
        owner = claims.below.get(path) or inherited.get(split(path)[0] if path else b"", "")
        if seen.member.kind == stat.S_IFDIR:
            inherited[path] = owner
            directories.append(path)
            continue
        if seen.member.kind == stat.S_IFSOCK:
            continue
        owners[path] = claims.files.get(path) or owner
        bodies[path] = seen.member.size
        if seen.is_linked:
            group = names.setdefault(seen.identity, [])
            group.append(path)
            owners[path] = owners[group[0]] = owners[group[0]] or owners[path]
    for group in names.values():
        for path in group:
            owners[path] = owners[group[0]]
            bodies[path] = bodies[path] if path is group[0] else 0
    if collect:
        owners = {path: owner or UNOWNED for path, owner in owners.items()}
    else:
        owners = {path: owner for path, owner in owners.items() if owner}
        wanted = {b"", *claims.below, *_above(owners)}
        directories = [path for path in directories if path in wanted or inherited[path]]
    return ModuleTree(view, owners, tuple(directories), _sizes(owners, bodies, len(directories)))


def _above(paths: Mapping[bytes, str]) -> set[bytes]:
    """Return all directories on the way to some paths."""
    found: set[bytes] = set()
    for path in paths:
        above = split(path)[0]
        while above not in found:
            found.add(above)
            above = split(above)[0]
    return found


def _sizes(owners: Mapping[bytes, str], bodies: Mapping[bytes, int], directories: int) -> dict[str, tuple[int, int]]:
    sizes = {UNOWNED: (directories * DIRECTORY, 0)}
    for path, owner in owners.items():
        size, files = sizes.get(owner, (0, 0))
        sizes[owner] = size + bodies[path], files + 1
    return sizes


class PathResolver:
    """Finds paths from lists of files in a tree: symlinks among their directories are followed within the tree."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._targets: dict[bytes, bytes | None] = {}  # of symlinks; None for anything else
        self._found: dict[bytes, bytes] = {}

    def real(self, path: bytes) -> bytes:
        """Return a path without symlinks on the way to its last name; what leads nowhere stays as it is."""
        above, name = split(path.strip(b"/"))
        if above not in self._found:
            self._found[above] = self._directory(above)
        return self._found[above] + b"/" + name if self._found[above] else name

    def _directory(self, path: bytes) -> bytes:
        here: list[bytes] = []
        ahead = path.split(b"/")[::-1]
        links = 0
        while ahead:
            part = ahead.pop()
            if part == b"..":
                del here[-1:]
            if part in (b"", b".", b".."):
                continue
            target = self._target(b"/".join([*here, part]))
            links += target is not None
            if target is None or links > _LINKS:
                here.append(part)
                continue
            if target.startswith(b"/"):
                here.clear()
            ahead += target.split(b"/")[::-1]
        return b"/".join(here)

    def _target(self, path: bytes) -> bytes | None:
        if path not in self._targets:
            seen = self._view.look(path)
            link = seen is not None and seen.member.kind == stat.S_IFLNK
            self._targets[path] = seen.member.target if seen is not None and link else None
        return self._targets[path]


def content(view: View, path: bytes, most: int) -> bytes | None:
    """Return at most `most` bytes of a regular file; None if there is none at a path."""
    seen = view.look(path)
    if seen is None or seen.member.kind != stat.S_IFREG:
        return None
    found = bytearray()
    for piece in view.data(path):
        found += piece[: most - len(found)]
        if len(found) >= most:
            break
    return bytes(found)
