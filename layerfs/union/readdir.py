"""The merged listing of a directory: which names there are, and which layers hold each.

It is loaded once from all layers and then kept true by every change, so that a lookup costs the same at 1 and at 300.
"""

import errno
import os
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from layerfs.union.inodes import Directory
from layerfs.union.layers import Kind, Part, Parts, Tree
from layerfs.union.listing import Listing, Where, Whiteout
from layerfs.union.reading import Entries, Reading
from layerfs.union.state import Overlay
from layerfs.union.whiteout import OPAQUE_FILES, WH, DirMarks

Steps = Generator[None, None, Listing]
STEP = 4096  # names that are merged in one go: some 2 ms
BATCH = 64  # directories opened at a time; bounds the descriptors in flight
_RESERVED = WH + WH  # aufs keeps its own files under `.wh..wh.`


def listing_of(ov: Overlay, node: Directory) -> Listing:
    """Return the merged listing, loading it on first use."""
    if node.listing is None:
        node.listing = _finish(_loading(ov, node))
    return node.listing


def load_stepwise(ov: Overlay, node: Directory) -> Iterator[None]:
    """Load a merged listing in steps of a few milliseconds; a small one takes no step.

    Others may use the union between the steps. Nobody changes names in a directory before its listing is loaded, so
    a listing that is there at the end, since somebody could not wait, is the one that was kept true.
    """
    if node.listing is None:
        listing = yield from _loading(ov, node)
        if node.listing is None:
            node.listing = listing


def _loading(ov: Overlay, node: Directory) -> Steps:
    found = _read_new(ov, node) if node.parts is None else _read_known(ov, node.parts)
    return (yield from _merging(ov, parts_of(ov, node), found))


def _finish(steps: Steps) -> Listing:
    """Take all steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            listing: Listing = end.value
            return listing


def parts_of(ov: Overlay, node: Directory) -> Parts:
    """Return a directory's parts, resolving them on first use."""
    if node.parts is None:
        node.parts = _parts(ov, node, _resolve(ov, node, scan=False))
    return node.parts


def _read_new(ov: Overlay, node: Directory) -> list[tuple[Part, Entries]]:
    """Resolve a directory's parts and read them all, in one go."""
    found = _resolve(ov, node, scan=True)
    node.parts = _parts(ov, node, found)
    return [(part, entries) for part, _marks, entries in found]


def _read_known(ov: Overlay, parts: Parts) -> list[tuple[Part, Entries]]:
    """Read the parts of a directory that were resolved before."""
    return [(part, _scan(part.tree, ov.fd(part))) for part in parts.all()]


def _parts(ov: Overlay, node: Directory, found: Sequence[tuple[Part, DirMarks, Entries]]) -> Parts:
    """Return the parts of a directory; ESTALE if the topmost is no longer the directory that the kernel knows."""
    parts = Parts()
    for part, _, _ in found:
        if part.is_upper:
            parts.upper = part
        else:
            parts.lowers.append(part)
    top = parts.top
    if node.seen and not node.is_seen(top.tree.stat_dir(ov.fd(top))):
        for part in parts.all():
            ov.handles.drop(part)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), node.name)
    if top.can_change:
        top.seen = node.seen
    return parts


def _resolve(ov: Overlay, node: Directory, *, scan: bool) -> list[tuple[Part, DirMarks, Entries]]:
    """Find the layers that share in a directory: top first, down to the first that is opaque or redirects."""
    if node.parent is None:
        candidates = [Part(tree, None, b"", tree.root()) for tree in ov.trees]
    else:
        candidates = [Part(above.tree, above, node.name) for above in node.candidates]
    found = []
    read = _read_all(ov, candidates, scan=scan)
    for count, (part, marks, entries) in enumerate(read):
        found.append((part, marks, entries))
        if marks.opaque or marks.redirect is not None:
            for unneeded, _, _ in read[count + 1 :]:
                ov.handles.drop(unneeded)
            if not marks.opaque:
                found += _follow(ov, node, part, marks, scan=scan)
            break
    return found


def _read_all(ov: Overlay, candidates: list[Part], *, scan: bool) -> list[tuple[Part, DirMarks, Entries]]:
    """Open candidates, read their marks and, if asked, their names; waiting for the disk is done side by side."""
    read: list[tuple[Part, DirMarks, Entries]] = []
    for start in range(0, len(candidates), BATCH):
        with ov.handles.held():
            read += _read_batch(ov, candidates[start : start + BATCH], scan=scan)
    return read


def _read_batch(ov: Overlay, batch: list[Part], *, scan: bool) -> list[tuple[Part, DirMarks, Entries]]:
    jobs = []
    for part in batch:
        if part.fd < 0 and part.parent is not None:
            jobs.append(Reading(part.tree, ov.fd(part.parent), part.name, scan))
        else:
            jobs.append(Reading(part.tree, part.fd, b"", scan))
    outcomes = ov.run_jobs(jobs, batch)
    for part, (fd, _, _, _) in zip(batch, outcomes, strict=True):
        if part.fd < 0 <= fd:
            ov.handles.keep(part, fd)
    failure = next((failure for _, _, _, failure in outcomes if failure is not None), None)
    if failure is not None:
        for part in batch:
            ov.handles.drop(part)
        raise failure
    return [(part, marks, entries) for part, (_, marks, entries, _) in zip(batch, outcomes, strict=True)]


def _scan(tree: Tree, fd: int) -> Entries:
    return tree.scan(fd, xattr_whiteouts=tree.marks(fd).xattr_whiteouts)


def _follow(
    ov: Overlay, node: Directory, part: Part, marks: DirMarks, *, scan: bool
) -> list[tuple[Part, DirMarks, Entries]]:
    """Find the lower shares of a redirected directory (overlayfs.rst, "redirect_dir")."""
    from layerfs.union.redirect import targets

    found = []
    for target in targets(ov, node.parent, part, marks.redirect or b""):
        _, below, entries, failure = Reading(target.tree, ov.fd(target), b"", scan)()
        if failure is not None:
            raise failure
        found.append((target, below, entries))
    return found


def _merging(ov: Overlay, parts: Parts, found: list[tuple[Part, Entries]]) -> Steps:
    """Merge what the parts hold, and note what the upper hides."""
    lowers = [(part, entries) for part, entries in found if not part.is_upper]
    upper = [(part, entries) for part, entries in found if part.is_upper]
    if not upper:
        return Listing((yield from _merging_lowers(lowers)))
    part, entries = upper[0]
    own: list[tuple[bytes, Kind]] = []
    for entry in entries:
        own.append(entry)
        if not len(own) % STEP:
            yield
    opaque = any(name in OPAQUE_FILES for name, _ in own)
    if opaque:
        for gone in parts.lowers:
            ov.handles.drop(gone)
        parts.lowers = []
    low = {} if opaque else (yield from _merging_lowers(lowers))
    return (yield from _merging_upper(low, part, own))


def _merging_upper(low: dict[bytes, Where], part: Part, entries: Entries) -> Steps:
    """Lay the upper's entries over the merged lowers."""
    whiteouts: dict[bytes, Whiteout] = {}
    own: dict[bytes, Where] = {}
    alone = (part,)  # one tuple for all
    for count, (name, kind) in enumerate(entries, 1):
        if not count % STEP:
            yield
        if name.startswith(WH):
            if name not in OPAQUE_FILES and not name.startswith(_RESERVED):
                whiteouts.setdefault(name[len(WH) :], Whiteout.BESIDE)
        elif kind is Kind.WHITEOUT:
            whiteouts[name] = Whiteout.AT_NAME
        elif kind is Kind.DIRECTORY:
            below = low.get(name)
            own[name] = (part, *below) if isinstance(below, tuple) else alone
        else:
            own[name] = part
    shadowed = set()
    for count, name in enumerate(whiteouts, 1):
        if not count % STEP:
            yield
        if low.pop(name, None) is not None:
            shadowed.add(name)
        if isinstance(own.get(name), tuple):
            own[name] = alone
    for count, (name, where) in enumerate(own.items(), 1):
        if not count % STEP:
            yield
        if name in low:
            shadowed.add(name)
        low[name] = where
    return Listing(low, shadowed, whiteouts)


def _merging_lowers(lowers: list[tuple[Part, Entries]]) -> Generator[None, None, dict[bytes, Where]]:
    """Merge the lowers: the highest entry of a name wins, directories unite until something else stops them."""
    merged: dict[bytes, Any] = {}  # a list is a directory that layers further down may still share
    hidden: set[bytes] = set()
    for part, entries in lowers:
        whites = []
        for count, (name, kind) in enumerate(entries, 1):
            if not count % STEP:
                yield
            if name.startswith(WH):
                whites.append(name)
            elif kind is Kind.WHITEOUT:
                whites.append(WH + name)
            elif name not in merged:
                if name not in hidden:
                    merged[name] = [part] if kind is Kind.DIRECTORY else part
            elif type(seen := merged[name]) is list:
                if kind is Kind.DIRECTORY:
                    seen.append(part)
                else:
                    merged[name] = tuple(seen)
        if whites and (yield from _hiding(whites, merged, hidden)):
            break
    shared: dict[tuple[Part, ...], tuple[Part, ...]] = {}  # most names span the same layers
    for count, (name, where) in enumerate(merged.items(), 1):
        if not count % STEP:
            yield
        if type(where) is not Part:
            parts = tuple(where)
            merged[name] = shared.setdefault(parts, parts)
    return merged


def _hiding(whites: list[bytes], merged: dict[bytes, Any], hidden: set[bytes]) -> Generator[None, None, bool]:
    """Apply one layer's whiteouts to the layers below it; True if it is opaque by a file."""
    for count, name in enumerate(whites, 1):
        if not count % STEP:
            yield
        if name in OPAQUE_FILES:
            continue
        if name.startswith(_RESERVED):
            continue
        bare = name[len(WH) :]
        hidden.add(bare)
        if type(merged.get(bare)) is list:
            merged[bare] = tuple(merged[bare])
    return not OPAQUE_FILES.isdisjoint(whites)
