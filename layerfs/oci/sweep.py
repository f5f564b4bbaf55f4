"""The deletions of a layer in a PLAIN target, when all else is there: what the layer itself brought stays."""

from collections.abc import Sequence
from typing import Final, Protocol

from layerfs.oci.paths import split
from layerfs.oci.resolve import Resolver
from layerfs.oci.target import EntryKind, Handle, Target

_KEPT: Final = True  # in `made`: the directory stands where one was deleted


class Application(Protocol):
    """What the sweep needs of the layer that is applied."""

    target: Target
    resolver: Resolver

    def is_ours(self, path: bytes) -> bool:
        """Tell whether the layer itself put something at a path."""

    def touch(self, found: tuple[Handle, bytes]) -> None:
        """Keep the time of a directory that is about to change."""

    def made(self, path: bytes, deleted: bool) -> None:
        """Take note of a directory that stays for what is in it."""


class Sweep:
    """Removes what whiteouts and opaque markers name."""

    def __init__(self, application: Application) -> None:
        self._target = application.target
        self._resolver = application.resolver
        self._ours = application.is_ours
        self._touch = application.touch
        self._made = application.made

    def all(self, hidden: Sequence[tuple[bytes, bool]]) -> None:
        """Apply all marks: paths, and whether only what is in the directory goes."""
        for path, only_inside in hidden:
            above, name = split(path)
            found = self._resolver.directory(above, make=False, follow=False)
            if found is None:
                continue
            if not path or self._target.kind(found[0], name) is EntryKind.DIRECTORY:
                self._directory(path, only_inside)
            elif not only_inside:
                self._name(path)

    def _directory(self, top: bytes, only_inside: bool) -> None:
        """Work through a tree without recursion: directories once before what is in them, and once after."""
        waiting = [(top, False)]
        while waiting:
            path, emptied = waiting.pop()
            if emptied:
                if path != top or not only_inside:
                    self._emptied(path)
                continue
            waiting.append((path, True))
            found = self._resolver.directory(path, make=False, follow=False)
            if found is None:
                continue
            if path == top and only_inside:
                self._touch(found)
            for name in self._target.names(found[0]):
                below = path + b"/" + name if path else name
                if self._target.kind(found[0], name) is EntryKind.DIRECTORY:
                    waiting.append((below, False))
                elif not self._ours(below):
                    self._target.remove(found[0], name)

    def _name(self, path: bytes) -> None:
        above, name = split(path)
        found = self._resolver.directory(above, make=False, follow=False)
        if found is not None and not self._ours(path) and self._target.kind(found[0], name) is not EntryKind.ABSENT:
            self._touch(found)
            self._target.remove(found[0], name)

    def _emptied(self, path: bytes) -> None:
        """Remove a directory, unless it is the layer's or something of the layer is in it."""
        if self._ours(path):
            return
        found = self._resolver.directory(path, make=False, follow=False)
        if found is not None and self._target.names(found[0]):
            self._made(path, _KEPT)
        else:
            self._resolver.discard(path)
            self._name(path)
