"""What each layer of a plan holds, entry by entry, and a digest of that, by which a layer that exists is known again.

Every directory stands as it is in the topmost layer alone. The other layers have the directories on the way to their
files, all alike (0755, root's, of 1970): so a file that comes or goes, and with it the time of its directory, changes
no layer but its own and the topmost one. Merged, a directory is what the topmost layer says.
"""

import hashlib
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from layerfs.errors import NotReady, Unsupported
from layerfs.oci.paths import split
from layerfs.oci.tar import HARD_LINK, Member
from layerfs.oci.view import Seen
from layerfs.oci.write import Item
from layerfs.plan.tree import ModuleTree

_OVERLAY: Final = (b"trusted.overlay.", b"user.overlay.")
_LABEL: Final = b"security.selinux"  # of the host, not of the file


@dataclass(frozen=True, slots=True)
class Slice:
    """One layer: its id, its paths, directories too, parents first; whether directories stand in it as they are."""

    id: int
    paths: tuple[bytes, ...]
    topmost: bool


def slices(tree: ModuleTree, layers: Sequence[tuple[int, Sequence[str]]]) -> list[Slice]:
    """Return what layers hold, bottom first, each given by its id and the names of its modules."""
    layer_of = {name: place for place, (_, names) in enumerate(layers) for name in names}
    paths: list[set[bytes]] = [{b""} for _ in layers]
    for path, owner in tree.owners.items():
        inside = paths[layer_of[owner]]
        while path not in inside:
            inside.add(path)
            path = split(path)[0]
    paths[-1].update(tree.directories)
    last = len(layers) - 1
    return [
        Slice(layer, tuple(sorted(inside, key=lambda path: path.split(b"/"))), place == last)
        for place, ((layer, _), inside) in enumerate(zip(layers, paths, strict=True))
    ]


class LayerContents:
    """The entries of a layer, given once; `digest` is of all that was given and read when the last one was."""

    def __init__(self, tree: ModuleTree, piece: Slice, recipe: bytes, latest: int | None = None) -> None:
        """`recipe`: what else the layer's bytes depend on; latest [s]: the time of files that are newer."""
        self._tree, self._piece, self._latest = tree, piece, latest
        self._hash = hashlib.sha256(b"layerfs layer 1\n%d\n%b" % (len(recipe), recipe))

    @property
    def digest(self) -> str:
        """The digest so far, as 64 hexadecimal digits."""
        return self._hash.hexdigest()

    def items(self) -> Iterator[Item]:
        """Yield the entries; the data of each must be read before the next one is asked for.

        Raises NotReady for what changes meanwhile, Unsupported for what a layer cannot hold.
        """
        first: dict[tuple[int, int], bytes] = {}
        for path in self._piece.paths:
            seen = self._tree.view.look(path)
            if seen is None:
                raise changed(path)
            item = self._item(seen, first)
            self._note(item.member)
            yield item

    def drain(self) -> str:
        """Read everything and return the digest."""
        for item in self.items():
            for _ in item.data() if item.data is not None else ():
                pass
        return self.digest

    def _item(self, seen: Seen, first: dict[tuple[int, int], bytes]) -> Item:
        member = seen.member
        if self._latest is not None and member.mtime_ns > self._latest * 10**9:
            member = replace(member, mtime_ns=self._latest * 10**9)
        if member.kind == stat.S_IFDIR:
            return Item(self._directory(member))
        _refuse(seen)
        if seen.is_linked:
            target = first.setdefault(seen.identity, member.path)
            if target != member.path:
                return Item(replace(member, kind=HARD_LINK, target=target, xattrs={}, size=0))
        member = replace(member, xattrs=_kept(member.xattrs))
        return Item(member, lambda: self._data(member)) if member.size else Item(member)

    def _directory(self, member: Member) -> Member:
        if self._piece.topmost:
            return replace(member, xattrs=_kept(member.xattrs))
        return Member(member.path, stat.S_IFDIR, 0o755, 0, 0, 0)

    def _note(self, member: Member) -> None:
        numbers = (member.kind, member.mode, member.uid, member.gid, member.mtime_ns, member.major, member.minor)
        texts = [member.path, member.target, *(part for pair in sorted(member.xattrs.items()) for part in pair)]
        self._hash.update(b"\n%d %d %d %d %d %d %d %d " % (*numbers, member.size))
        self._hash.update(b" ".join(b"%d:%b" % (len(text), text) for text in texts))

    def _data(self, member: Member) -> Iterator[memoryview]:
        content = hashlib.sha256()
        left = member.size
        for piece in self._tree.view.data(member.path):
            content.update(piece)
            left -= len(piece)
            yield piece
        if left:
            raise changed(member.path)
        self._hash.update(content.digest())


def changed(path: bytes) -> NotReady:
    """Return the error for a file that changed while it was read."""
    return NotReady(f"/{path.decode(errors='replace')} changed while it was packed", "stop whoever writes to it")


def _refuse(seen: Seen) -> None:
    shown = seen.member.path.decode(errors="replace")
    if seen.is_whiteout:
        raise Unsupported(f"/{shown} would hide what is below it", "take the device away")
    if seen.member.kind == stat.S_IFREG and seen.is_marked_whiteout:
        raise Unsupported(f"/{shown} has an overlay's mark of a deletion", "take its xattr away")


def _kept(xattrs: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the xattrs that a layer keeps: no marks of overlays, and none that only this host understands."""
    return {name: value for name, value in xattrs.items() if not name.startswith(_OVERLAY) and name != _LABEL}
