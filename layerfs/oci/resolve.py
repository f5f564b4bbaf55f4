"""Directories of a target by their paths, found component by component and kept open.

A symlink that the layer itself brought is followed, but within the root; one of the layers below is replaced by a
directory, as all peers have it: a layer's names mean what the layer says. A name below a file is Corrupt.
"""

from collections.abc import Callable
from typing import Final, Literal, overload

from layerfs.errors import Corrupt
from layerfs.oci.paths import split
from layerfs.oci.target import EntryKind, Handle, Target, TargetForm
from layerfs.pysquashfs.recent import Recent

OPEN: Final = 128  # directories that are kept open
LINKS: Final = 40  # symlinks that one path may lead through (path_resolution(7))

_Found = tuple[Handle, bytes]  # a directory and its path without symlinks


class Resolver:
    """Finds and makes the directories of one target.

    `ours` tells whether the layer itself put something at a path; `made` is told of each directory that is made
    without an entry of its own, and whether it stands in place of a whiteout.
    """

    def __init__(self, target: Target, ours: Callable[[bytes], bool], made: Callable[[bytes, bool], None]) -> None:
        self._target = target
        self._ours = ours
        self._made = made
        self._root: _Found = (target.root(), b"")
        self._open: Recent[bytes, _Found] = Recent(OPEN, let_go=lambda found: target.leave(found[0]))
        self._all = False  # whether symlinks of the layers below are followed too
        self._retired: list[Handle] = []  # forgotten, but perhaps still in use until the next call

    @overload
    def directory(self, path: bytes, *, make: Literal[True]) -> _Found: ...

    @overload
    def directory(self, path: bytes, *, make: bool, follow: bool = True) -> _Found | None: ...

    def directory(self, path: bytes, *, make: bool, follow: bool = True) -> _Found | None:
        """Return a directory, good until the next call, and its true path; None if it is not there and not made."""
        self._close_retired()
        if not path:
            return self._root
        found = self._open.get(path)
        if found is not None and (follow or found[1] == path):
            return found
        return self._walk(path, make, follow)

    def through_all(self, path: bytes) -> _Found | None:
        """Return a directory that is there, through symlinks of anybody, good until the next call."""
        self._all = True
        try:
            return self.directory(path, make=False)
        finally:
            self._all = False
            self.forget()  # other paths through these mean other directories

    def _walk(self, path: bytes, make: bool, follow: bool) -> _Found | None:
        done, found = self._nearest(path, follow)
        waiting = path[len(done) :].strip(b"/").split(b"/")[::-1]
        links = 0
        straight = found[1] == done  # no symlink so far
        while waiting:
            name = waiting.pop()
            if name == b"..":
                found = self.directory(split(found[1])[0], make=False) or self._root
                continue
            if name in (b"", b"."):
                continue
            below = self._enter(found, name, make)
            if below is None:
                return None
            if isinstance(below, bytes):
                links += 1
                if not follow:
                    return None
                if links > LINKS:
                    raise Corrupt(f"the layer has a loop of symlinks at {path!r}")
                found = self._root if below.startswith(b"/") else found
                waiting += below.split(b"/")[::-1]
                straight = False
                continue
            found = (below, found[1] + b"/" + name if found[1] else name)
            self._open.put(found[1], found)
        if not straight and path not in self._open:
            self._alias(path, found)
        return found

    def _nearest(self, path: bytes, follow: bool) -> tuple[bytes, _Found]:
        """Return the deepest directory above that is open."""
        above = split(path)[0]
        while above:
            found = self._open.get(above)
            if found is not None and (follow or found[1] == above):
                return above, found
            above = split(above)[0]
        return b"", self._root

    def _enter(self, at: _Found, name: bytes, make: bool) -> Handle | bytes | None:
        """Open a directory; or return a symlink's target; or None."""
        path = at[1] + b"/" + name if at[1] else name
        try:
            return self._target.enter(at[0], name)
        except FileNotFoundError:
            if not make:
                return None
        except NotADirectoryError:
            kind = self._target.kind(at[0], name)
            ours = self._ours(path)
            if kind is EntryKind.SYMLINK and (ours or self._all):
                return self._target.readlink(at[0], name)
            if not make:
                return None
            if kind is EntryKind.OTHER and ours:
                raise Corrupt(f"the layer has an entry below a file: {path!r}") from None
            self._target.remove(at[0], name)
            return self._fresh(at, name, path, opaque=kind is EntryKind.WHITEOUT)
        return self._fresh(at, name, path, opaque=False)

    def _fresh(self, at: _Found, name: bytes, path: bytes, *, opaque: bool) -> Handle:
        self._target.mkdir(at[0], name)
        self._made(path, opaque)
        handle = self._target.enter(at[0], name)
        if opaque and self._target.form is TargetForm.OVERLAY:
            self._target.set_opaque(handle)
        return handle

    def _alias(self, path: bytes, found: _Found) -> None:
        """Remember where a path with symlinks leads, with a handle of its own."""
        if found[1]:
            above = self.directory(split(found[1])[0], make=False)
            if above is not None:
                self._open.put(path, (self._target.enter(above[0], split(found[1])[1]), found[1]))

    def forget(self) -> None:
        """Forget all directories: one of them has gone, or a symlink has changed."""
        self._retired += [handle for handle, _ in self._open.take_all()]

    def discard(self, path: bytes) -> None:
        """Forget one directory, which is about to go."""
        self._open.drop(path)

    def close(self) -> None:
        """Close all directories but the root."""
        self.forget()
        self._close_retired()

    def _close_retired(self) -> None:
        while self._retired:
            self._target.leave(self._retired.pop())
