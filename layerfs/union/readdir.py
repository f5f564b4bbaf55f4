"""The merged listing of a directory: which names there are, and which layers hold each.

It is loaded once from all layers and then kept true by every change, so that a lookup costs the same at 1 and at 300.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

from layerfs.union.inodes import Directory, Where
from layerfs.union.layers import Kind, Part, Tree
from layerfs.union.state import Overlay
from layerfs.union.whiteout import OPAQUE_FILES, PLAIN, WH, DirMarks

Entries = Iterable[tuple[bytes, Kind]]
Outcome = tuple[int, DirMarks, Entries, OSError | None]  # of opening and reading: the handle, what was read, or why not
BATCH = 64  # directories opened at a time; bounds the descriptors in flight
_RESERVED = WH + WH  # aufs keeps its own files under `.wh..wh.`


def listing_of(ov: Overlay, node: Directory) -> dict[bytes, Where]:
    """Return the merged listing, loading it on first use."""
    if node.listing is None:
        found = survey(ov, node) if node.parts is None else rescan(ov, node)
        node.listing = _merge(ov, node, found)
    return node.listing


def parts_of(ov: Overlay, node: Directory) -> list[Part | None]:
    """Return a directory's parts, resolving them on first use."""
    if node.parts is None:
        parts: list[Part | None] = [None]
        for part, _marks, _ in _resolve(ov, node, scan=False):
            _place(parts, part)
        node.parts = parts
    return node.parts


def survey(ov: Overlay, node: Directory) -> list[tuple[int, Entries]]:
    """Resolve a directory's parts and read them all, in one go."""
    parts: list[Part | None] = [None]
    found = []
    for part, _marks, entries in _resolve(ov, node, scan=True):
        found.append((_place(parts, part), entries))
    node.parts = parts
    return found


def rescan(ov: Overlay, node: Directory) -> list[tuple[int, Entries]]:
    """Read the parts of a directory that were resolved before."""
    parts = [(pos, part) for pos, part in enumerate(node.parts or ()) if part is not None]
    return [(pos, _scan(part.tree, ov.fd(part))) for pos, part in parts]


def _place(parts: list[Part | None], part: Part) -> int:
    if part.tree.index == 0:
        parts[0] = part
        return 0
    parts.append(part)
    return len(parts) - 1


def _resolve(ov: Overlay, node: Directory, *, scan: bool) -> list[tuple[Part, DirMarks, Entries]]:
    """Find the layers that share in a directory: top first, down to the first that is opaque or redirects."""
    if node.parent is None:
        candidates = [Part(tree, None, b"", tree.root()) for tree in ov.trees if tree is not None]
    else:
        above = parts_of(ov, node.parent)
        candidates = [Part(p.tree, p, node.name) for p in (above[i] for i in node.candidates) if p is not None]
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
    jobs: list[Any] = []
    for part in batch:
        if part.fd < 0:
            assert part.parent is not None
            jobs.append(partial(_read_one, part.tree, ov.fd(part.parent), part.name, scan=scan))
        else:
            jobs.append(partial(_read_open, part.tree, part.fd, scan=scan))
    outcomes = ov.together(jobs, batch)
    for part, (fd, _, _, _) in zip(batch, outcomes, strict=True):
        if part.fd < 0 <= fd:
            ov.handles.keep(part, fd)
    failure = next((failure for _, _, _, failure in outcomes if failure is not None), None)
    if failure is not None:
        for part in batch:
            ov.handles.drop(part)
        raise failure
    return [(part, marks, entries) for part, (_, marks, entries, _) in zip(batch, outcomes, strict=True)]


def _read_one(tree: Tree, at: int, name: bytes, *, scan: bool) -> Outcome:
    """Open and read; a failure is returned, so that what others have opened meanwhile is not lost."""
    try:
        fd = tree.open_dir(at, name)
    except OSError as error:
        return -1, PLAIN, (), error
    return _read_open(tree, fd, scan=scan)


def _read_open(tree: Tree, fd: int, *, scan: bool) -> Outcome:
    try:
        marks = tree.marks(fd)
        return fd, marks, _scan(tree, fd, marks) if scan else (), None
    except OSError as error:
        return fd, PLAIN, (), error


def _scan(tree: Tree, fd: int, marks: DirMarks | None = None) -> Entries:
    known = tree.marks(fd) if marks is None else marks
    return tree.scan(fd, xattr_whiteouts=known.xattr_whiteouts)


def _follow(
    ov: Overlay, node: Directory, part: Part, marks: DirMarks, *, scan: bool
) -> list[tuple[Part, DirMarks, Entries]]:
    """Find the lower shares of a redirected directory (overlayfs.rst, "redirect_dir")."""
    from layerfs.union.redirect import targets

    found = []
    for target in targets(ov, node.parent, part, marks.redirect or b""):
        _, below, entries, failure = _read_open(target.tree, ov.fd(target), scan=scan)
        if failure is not None:
            raise failure
        found.append((target, below, entries))
    return found


def _merge(ov: Overlay, node: Directory, found: list[tuple[int, Entries]]) -> dict[bytes, Where]:
    """Merge what the parts hold, and note what the upper covers."""
    upper = next((entries for pos, entries in found if pos == 0), None)
    lowers = [(pos, entries) for pos, entries in found if pos != 0]
    node.covered, node.whites = set(), {}
    if upper is None:
        return _merge_lowers(ov, lowers)
    upper = list(upper)
    opaque = any(name in OPAQUE_FILES for name, _ in upper)
    if opaque and node.parts is not None:
        for gone in node.parts[1:]:
            if gone is not None:
                ov.handles.drop(gone)
        del node.parts[1:]
    low = {} if opaque else _merge_lowers(ov, lowers)
    return _merge_upper(ov, node, low, upper)


def _merge_upper(ov: Overlay, node: Directory, low: dict[bytes, Where], upper: Entries) -> dict[bytes, Where]:
    """Lay the upper's entries over the merged lowers."""
    hidden: list[bytes] = []
    own: dict[bytes, Where] = {}
    for name, kind in upper:
        if name.startswith(WH):
            _note_file_whiteout(node, name, hidden)
        elif kind is Kind.WHITEOUT:
            node.whites[name] = True
            hidden.append(name)
        elif kind is Kind.DIRECTORY:
            below = low.get(name)
            own[name] = ov.span((0, *below)) if type(below) is tuple else ov.span((0,))
        else:
            own[name] = 0
    node.covered = {name for name in own if name in low} | {name for name in hidden if name in low}
    for name in hidden:
        low.pop(name, None)
        if type(own.get(name)) is tuple:
            own[name] = ov.span((0,))
    low.update(own)
    return low


def _note_file_whiteout(node: Directory, name: bytes, hidden: list[bytes]) -> None:
    if name not in OPAQUE_FILES and not name.startswith(_RESERVED):
        node.whites.setdefault(name[len(WH) :], False)
        hidden.append(name[len(WH) :])


def _merge_lowers(ov: Overlay, lowers: list[tuple[int, Entries]]) -> dict[bytes, Where]:
    """Merge the lowers: the highest entry of a name wins, directories unite until something else stops them."""
    merged: dict[bytes, Any] = {}  # a list is a directory that layers further down may still share
    hidden: set[bytes] = set()
    for pos, entries in lowers:
        whites = []
        for name, kind in entries:
            if name.startswith(WH):
                whites.append(name)
            elif kind is Kind.WHITEOUT:
                whites.append(WH + name)
            elif name not in merged:
                if name not in hidden:
                    merged[name] = [pos] if kind is Kind.DIRECTORY else pos
            elif type(seen := merged[name]) is list:
                if kind is Kind.DIRECTORY:
                    seen.append(pos)
                else:
                    merged[name] = tuple(seen)
        if whites and _hide(whites, merged, hidden):
            break
    span = ov.span
    return {name: where if type(where) is int else span(where) for name, where in merged.items()}


def _hide(whites: list[bytes], merged: dict[bytes, Any], hidden: set[bytes]) -> bool:
    """Apply one layer's whiteouts to the layers below it; True if it is opaque by a file."""
    for name in whites:
        if name in OPAQUE_FILES:
            continue
        if name.startswith(_RESERVED):
            continue
        bare = name[len(WH) :]
        hidden.add(bare)
        if type(merged.get(bare)) is list:
            merged[bare] = tuple(merged[bare])
    return any(name in OPAQUE_FILES for name in whites)
