"""What a snapshot changes of its parents, as the entries of a layer (layer.md): sorted, each parent before its content.

`changes` reads an overlay's upper with its marks; `differences` compares two whole trees. What a layer cannot say is
left out and reported: sockets, and files that are really named like a whiteout.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from layerfs.oci.below import NothingBelow
from layerfs.oci.digest import Hasher
from layerfs.oci.paths import OPAQUE, WH, split
from layerfs.oci.tar import HARD_LINK, Member
from layerfs.oci.target import WHITEOUTS
from layerfs.oci.view import RawView, Seen, View
from layerfs.oci.write import Item
from layerfs.union.escape import shown, stands_for_device

Report = Callable[[bytes, str], None]  # path, why it is left out

_LABEL: Final = b"security.selinux"  # of the host, not of the file


class Entries:
    """Entries of one layer: hard links become links to the first name, and what cannot be said is reported."""

    def __init__(self, report: Report, *, marks: bool) -> None:
        """`marks`: whether a tree as it is on disk has marks of overlays, which are no content."""
        self._report = report
        self._marks = marks
        self._first: dict[tuple[int, int], bytes] = {}

    def can_say(self, path: bytes, seen: Seen) -> bool:
        """Tell whether a layer can hold this, and report it if not."""
        if split(path)[1].startswith(WH):
            self._report(path, "has a name that means a deletion in a layer")
        elif seen.member.kind == stat.S_IFSOCK:
            self._report(path, "is a socket, which no layer can hold")
        else:
            return True
        return False

    def item(self, seen: Seen, view: View) -> Item:
        """Return the entry of what was seen."""
        member, raw = seen.member, isinstance(view, RawView)
        if seen.is_linked:
            first = self._first.setdefault(seen.identity, member.path)
            if first != member.path:
                return Item(replace(member, kind=HARD_LINK, target=first, xattrs={}, size=0))
        member = self.plain(member, raw=raw)
        if member.kind != stat.S_IFREG:
            return Item(member)
        if isinstance(view, RawView) and (extents := view.extents(seen)) is not None:
            return Item(replace(member, extents=extents), lambda: view.data(member.path, extents))
        return Item(member, lambda: view.data(member.path))

    def plain(self, member: Member, *, raw: bool) -> Member:
        """Keep the xattrs that are the file's own: no marks, but those of an overlay in a container, renamed back.

        raw: whether they are as on disk; a union shows them so already.
        """
        named = ((self._shown(name) if raw else name, value) for name, value in member.xattrs.items())
        kept = {name: value for name, value in named if name is not None and name != _LABEL}
        if raw and self._marks and member.kind == stat.S_IFREG and not member.size:
            if stands_for_device(map(os.fsdecode, member.xattrs)):
                member = replace(member, kind=stat.S_IFCHR, major=0, minor=0)
        if self._marks and member.kind == stat.S_IFCHR and member.major == member.minor == 0:
            kept = {name: value for name, value in kept.items() if name not in WHITEOUTS}
        return member if kept == member.xattrs else replace(member, xattrs=kept)

    def _shown(self, name: bytes) -> bytes | None:
        if not self._marks:
            return name
        found = shown(os.fsdecode(name))
        return None if found is None else os.fsencode(found)


def whiteout(path: bytes) -> Item:
    """Return the entry that deletes a path."""
    above, name = split(path)
    marker = WH + name
    return Item(Member(above + b"/" + marker if above else marker, stat.S_IFREG, 0o644, 0, 0, 0))


def opaque(path: bytes) -> Item:
    """Return the entry that deletes what the layers below have in a directory."""
    return Item(Member(path + b"/" + OPAQUE, stat.S_IFREG, 0o644, 0, 0, 0))


def changes(upper: RawView, below: View, merged: Callable[[], View], report: Report) -> Iterator[Item]:
    """Yield what an upper says.

    below: its parents. merged: opens the upper and its parents as one tree, for directories that were renamed (a
    redirect) and files whose data is still below (metacopy).
    """
    entries = Entries(report, marks=True)
    root = upper.root()
    if _own(entries, root, raw=True) != _own(entries, below.look(b""), raw=False):
        yield entries.item(root, upper)
    waiting = [(root, sorted(upper.names(b""), reverse=True))]
    while waiting:
        above, names = waiting[-1]
        if not names:
            waiting.pop()
            continue
        name = names.pop()
        path = above.member.path + b"/" + name if above.member.path else name
        seen = upper.look(path)
        if seen is None:
            continue
        if seen.is_whiteout or (above.mark(b"opaque") == b"x" and seen.is_marked_whiteout):
            if below.look(path) is not None:
                yield whiteout(path)
            elif isinstance(below, NothingBelow):
                report(path, "is the device 0/0, which means a deletion in a layer")
        elif not entries.can_say(path, seen):
            continue
        elif seen.member.kind == stat.S_IFDIR:
            yield entries.item(seen, upper)
            hides = seen.mark(b"opaque") == b"y" or seen.mark(b"redirect") is not None
            if hides and _is_directory(below.look(path)):
                yield opaque(path)
            if seen.mark(b"redirect") is None:
                waiting.append((seen, sorted(upper.names(path), reverse=True)))
            else:
                yield from _whole(path, merged(), entries)
        elif seen.mark(b"metacopy") is not None:
            whole = merged().look(path)
            if whole is not None:
                yield entries.item(replace(whole, status=seen.status), merged())
        else:
            yield entries.item(seen, upper)


def _whole(top: bytes, view: View, entries: Entries) -> Iterator[Item]:
    """Yield all that is in a directory."""
    for seen in walk(view, top):
        if entries.can_say(seen.member.path, seen):
            yield entries.item(seen, view)


def walk(view: View, top: bytes = b"") -> Iterator[Seen]:
    """Yield all that is below a directory, sorted, each directory before what is in it."""
    waiting = [(top, sorted(view.names(top), reverse=True))]
    while waiting:
        above, names = waiting[-1]
        if not names:
            waiting.pop()
            continue
        name = names.pop()
        path = above + b"/" + name if above else name
        seen = view.look(path)
        if seen is None:
            continue
        yield seen
        if seen.member.kind == stat.S_IFDIR:
            waiting.append((path, sorted(view.names(path), reverse=True)))


def _is_directory(seen: Seen | None) -> bool:
    return seen is not None and seen.member.kind == stat.S_IFDIR


def _own(entries: Entries, seen: Seen | None, *, raw: bool) -> tuple[int, int, int, dict[bytes, bytes]]:
    """Return what of a directory counts as changed; its time changes with its entries."""
    if seen is None:
        return 0o755, 0, 0, {}
    member = entries.plain(seen.member, raw=raw)
    return member.mode, member.uid, member.gid, member.xattrs


def differences(before: View, after: View, report: Report, *, snapshot: bool = False) -> Iterator[Item]:
    """Yield what makes one tree of another, whose xattrs are all content.

    snapshot: the one is a snapshot of the other by the filesystem, so that files of one inode number and one ctime are
    the same; others are compared to the last byte. All names of a file are written if one of them is: a link into the
    layers below is beyond most readers.
    """
    entries = Entries(report, marks=False)
    comparison = _Comparison(before, after, entries, snapshot)
    comparison.moved = {seen.identity for seen, _ in comparison.walk() if seen is not None and seen.is_linked}
    written: list[bytes] = []  # directories from the root to where we are that have been written
    for seen, path in comparison.walk():
        for parent in comparison.parents(path, written):
            yield entries.item(parent, after)
        if seen is None:
            yield whiteout(path)
        elif entries.can_say(path, seen):
            yield entries.item(seen, after)
            if seen.member.kind == stat.S_IFDIR:
                written.append(path)


class _Comparison:
    """Two trees walked side by side."""

    def __init__(self, before: View, after: View, entries: Entries, snapshot: bool) -> None:
        self._before = before
        self._after = after
        self._entries = entries
        self._snapshot = snapshot
        self.moved: set[tuple[int, int]] = set()  # files of several names of which one has changed

    def walk(self) -> Iterator[tuple[Seen | None, bytes]]:
        """Yield what is new or changed, and None for what is gone, with paths, sorted."""
        root = self._after.look(b"")
        before = _own(self._entries, self._before.look(b""), raw=True)
        if root is not None and _own(self._entries, root, raw=True) != before:
            yield root, b""
        waiting = [(b"", self._names(b"", known=True), True)]
        while waiting:
            above, names, known = waiting[-1]
            if not names:
                waiting.pop()
                continue
            name = names.pop()
            path = above + b"/" + name if above else name
            old = self._before.look(path) if known else None
            new = self._after.look(path)
            if new is None or (old is None or not self._same(old, new)):
                yield new, path
            if new is not None and new.member.kind == stat.S_IFDIR:
                inside = _is_directory(old)
                waiting.append((path, self._names(path, known=inside), inside))

    def _names(self, path: bytes, *, known: bool) -> list[bytes]:
        names = set(self._after.names(path))
        if known:
            names.update(self._before.names(path))
        return sorted(names, reverse=True)

    def _same(self, old: Seen, new: Seen) -> bool:
        if new.is_linked and new.identity in self.moved:
            return False
        if self._snapshot and (old.status.st_ino, old.status.st_ctime_ns) == (
            new.status.st_ino,
            new.status.st_ctime_ns,
        ):
            return True
        one, two = self._entries.plain(old.member, raw=True), self._entries.plain(new.member, raw=True)
        if one.kind == stat.S_IFDIR:
            one, two = replace(one, mtime_ns=0), replace(two, mtime_ns=0)
        return one == two and (one.kind != stat.S_IFREG or self._same_bytes(one.path))

    def _same_bytes(self, path: bytes) -> bool:
        return _hash(self._before.data(path)) == _hash(self._after.data(path))

    def parents(self, path: bytes, written: list[bytes]) -> Iterator[Seen]:
        """Yield the directories above a path that are not written yet; readers would give them other metadata."""
        while written and not path.startswith(written[-1] + b"/"):
            written.pop()
        at = len(written[-1]) + 1 if written else 0
        while (at := path.find(b"/", at)) >= 0:
            seen = self._after.look(path[:at])
            if seen is not None:
                written.append(path[:at])
                yield seen
            at += 1


def _version(seen: Seen) -> tuple[int, int]:
    return seen.status.st_ino, seen.status.st_ctime_ns


def _hash(pieces: Iterator[memoryview]) -> str:
    hasher = Hasher()
    for piece in pieces:
        hasher.update(piece)
    return hasher.digest
