"""The marks in a layer, whiteouts and opaque markers: what they hide of the layers below, and how a target says so."""

import stat

from layerfs.errors import Corrupt, InvalidArgument
from layerfs.oci.below import Below
from layerfs.oci.paths import AUFS, OPAQUE, WH, hidden_name, split
from layerfs.oci.resolve import Resolver
from layerfs.oci.target import EntryKind, Handle, Target


class LayerMarks:
    """The marks of one layer on their way into one target.

    They wait in `pending` (paths, and whether only what is in the directory goes) until all entries are there. In an
    OVERLAY target `write` writes them then, before hard links are made; what they delete in a PLAIN one may be what a
    hard link needs, so there the sweep comes after these.
    """

    def __init__(self, target: Target, resolver: Resolver, below: Below | None) -> None:
        self._target = target
        self._resolver = resolver
        self._below = below
        self.pending: list[tuple[bytes, bool]] = []
        self.deleted: set[bytes] = set()  # directories that stand where the layer deleted one
        self._covered: dict[bytes, bool] = {}
        self._emptied: dict[bytes, bool] = {}

    def mark(self, path: bytes) -> None:
        """Note a whiteout or an opaque marker; other names that begin with `.wh..wh.` are aufs's own, and ignored."""
        above, name = split(path)
        if name == OPAQUE and not _marked(above):
            self.pending.append((above, True))
            return
        if any(part.startswith(AUFS) for part in path.split(b"/")):
            return
        if _marked(above):
            raise Corrupt(f"the layer has an entry below a whiteout: {path!r}")
        hidden = hidden_name(name, path)
        self.pending.append((above + b"/" + hidden if above else hidden, False))

    def write(self) -> None:
        """Write all marks, those of parents first: what is in a deleted directory needs none."""
        for path, only_inside in sorted(self.pending, key=lambda mark: (mark[0].count(b"/"), mark[1])):
            if only_inside:
                self.hide_all(path)
            else:
                self.hide(*split(path))

    def hide(self, above: bytes, name: bytes) -> None:
        """Hide a name of the layers below."""
        path = above + b"/" + name if above else name
        if self._below is not None and self._below.find(path) is None:
            return
        if self._is_emptied(above):
            return
        found = self._resolver.directory(above, make=self.is_hidable(above), follow=False)
        if found is None:
            return
        kind = self._target.kind(found[0], name)
        if kind is EntryKind.ABSENT:
            self._target.whiteout(found[0], name)
        elif kind is EntryKind.DIRECTORY:
            self.deleted.add(path)
            opaque(self._target, found[0], name)

    def _is_emptied(self, path: bytes) -> bool:
        """Tell whether a mark above a path hides all that the layers below have there."""
        way: list[bytes] = []
        emptied = False
        while path and not emptied:
            if (known := self._emptied.get(path)) is not None:
                emptied = known
                break
            way.append(path)
            found = self._resolver.directory(path, make=False, follow=False)
            emptied = found is not None and self._target.is_opaque(found[0])
            path = split(path)[0]
        self._emptied |= dict.fromkeys(way, emptied)
        return emptied

    def is_hidable(self, path: bytes) -> bool:
        """Tell whether a directory can hold marks: this layer has put nothing else at a part of its path."""
        at, path = b"", path and path + b"/"
        while path:
            part, _, path = path.partition(b"/")
            found = self._resolver.directory(at, make=False, follow=False)
            kind = self._target.kind(found[0], part) if found is not None else EntryKind.ABSENT
            if kind is not EntryKind.DIRECTORY:
                return kind is EntryKind.ABSENT
            at = at + b"/" + part if at else part
        return True

    def hide_all(self, path: bytes) -> None:
        """Hide all that the layers below have in a directory."""
        below = self._below
        if not path:
            if below is None:
                raise InvalidArgument("the layer hides all layers below, and these are not known here")
            for name in below.names(b""):
                self.hide(b"", name)
            return
        if below is not None:
            known = below.find(path)
            if known is None or known.kind != stat.S_IFDIR:
                return
        if self._is_emptied(split(path)[0]):
            return
        found = self._resolver.directory(path, make=self.is_hidable(path), follow=False)
        if found is not None:
            self._target.set_opaque(found[0])

    def is_covered(self, path: bytes) -> bool:
        """Tell whether this layer hides what the layers below have in a directory."""
        way: list[bytes] = []
        covered = False
        while path and not covered:
            if (known := self._covered.get(path)) is not None:
                covered = known
                break
            way.append(path)
            found = self._resolver.directory(path, make=False, follow=False)
            covered = found is None or self._target.is_opaque(found[0])
            path = split(path)[0]
        for seen in way[::-1]:  # `covered` is true only of the last one and what is below it
            self._covered[seen] = covered
        return covered


def opaque(target: Target, at: Handle, name: bytes) -> None:
    """Hide all that the layers below have in a directory."""
    handle = target.enter(at, name)
    try:
        target.set_opaque(handle)
    finally:
        target.leave(handle)


def _marked(path: bytes) -> bool:
    return any(part.startswith(WH) for part in path.split(b"/"))
