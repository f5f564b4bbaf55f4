"""Files from one snapshot into another, as `cp -a` has it, without mounting either: what a build's `COPY --from` needs.

Owners, modes, xattrs, times, holes and hard links among what is copied are kept; data is reflinked where the filesystem
can. Paths follow the symlinks of their own snapshot, and never leave it. The target must not be mounted meanwhile.
"""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace

from layerfs.errors import InvalidArgument, NotFound, NotReady
from layerfs.oci.apply import Application, Rules
from layerfs.oci.below import UnionBelow, resolve
from layerfs.oci.differ import Entries, walk
from layerfs.oci.directory import DirectoryTarget
from layerfs.oci.metadata import usual_ownership
from layerfs.oci.paths import split
from layerfs.oci.tar import Member
from layerfs.oci.target import CopySource, Data, Outcome, TargetForm
from layerfs.oci.unpack import FORMS
from layerfs.oci.view import RawView, Seen
from layerfs.snapshots.driver import SnapshotKind
from layerfs.snapshots.snapshotter import Snapshotter

Shown = UnionBelow | RawView


@dataclass(frozen=True, slots=True)
class Copied:
    """How much was copied, and what could not be: (path, why)."""

    entries: int
    left_out: tuple[tuple[bytes, str], ...]


@dataclass(slots=True)
class _Hand:
    """The reader of an `Application`: yields the data of the file that is being copied."""

    data: Data


def copy(
    snapshotter: Snapshotter, source: str, path: bytes, target: str, to: bytes, check: Callable[[], None] = lambda: None
) -> Copied:
    """Copy a file or tree of one snapshot into an active one.

    A directory that is there gets the copy into it; `path` ending in `/.` means what is in a directory.
    Raises NotFound, InvalidArgument, NotReady, OSError; what was copied until then stays.
    """
    if snapshotter.stat(target).kind is not SnapshotKind.ACTIVE:
        raise NotReady(f"snapshot {target} is not active", "prepare one on top of it")
    own = snapshotter.writable_layer(target)
    stack = snapshotter.stack(target).lowers
    form = FORMS[own.form]
    if not os.path.isdir(own.path):
        raise NotReady(f"snapshot {target} is packed", "prepare one on top of it")
    left_out: list[tuple[bytes, str]] = []
    with ExitStack() as held:
        marks = FORMS[snapshotter.layer(source).form] is TargetForm.OVERLAY
        view = held.enter_context(_shown(snapshotter.stack(source).lowers, marks=marks))
        merged = held.enter_context(_shown(stack, marks=form is TargetForm.OVERLAY))
        found, place = _source(view, path, source), _place(merged, path, to)
        below = held.enter_context(UnionBelow(stack[1:])) if form is TargetForm.OVERLAY and len(stack) > 1 else None
        root = os.open(own.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        held.callback(os.close, root)
        outcome = Outcome()
        into = DirectoryTarget(
            root, form, outcome=outcome, ownership=usual_ownership(), fresh=False, nesting=own.nesting
        )
        hand = _Hand(lambda: iter(()))
        application = Application(hand, into, outcome, Rules(below, check=check, whole=False))
        held.callback(application.resolver.close)
        for member, data in _members(
            view, found, place, Entries(lambda where, why: left_out.append((where, why)), marks=marks)
        ):
            hand.data = data
            application.entry(member)
        application.finish()
    return Copied(outcome.entries, tuple(left_out))


def _shown(lowers: Sequence[bytes], *, marks: bool) -> AbstractContextManager[Shown]:
    """Open layers as their snapshot shows them: in a whole tree the device 0/0 and xattrs of overlays are content."""
    from layerfs.lowers.kinds import open_tree

    return UnionBelow(lowers) if marks else RawView(open_tree(lowers[0], 0))


def _source(view: Shown, path: bytes, name: str) -> Seen:
    """Return what is to be copied: a symlink itself, or its target where the path ends in / or /. ."""
    inside = _is_inside(path)
    above, last = (path, b"") if inside else split(path)
    parent = resolve(view, above)
    true = None if parent is None else (parent + b"/" + last if parent and last else parent or last)
    seen = None if true is None else view.look(true)
    if seen is None or (inside and seen.member.kind != stat.S_IFDIR):
        raise NotFound(f"snapshot {name} has no {'directory ' if seen is not None else ''}/{os.fsdecode(path)}")
    return seen


def _is_inside(path: bytes) -> bool:
    """Tell whether a path means what is in a directory."""
    return path in (b"", b".") or path.endswith((b"/", b"/."))


def _place(merged: Shown, path: bytes, to: bytes) -> bytes:
    """Return where the copy goes, without symlinks."""
    place = resolve(merged, to)
    if place is None:
        raise NotFound(f"there is no directory for {os.fsdecode(to)}", "copy its parent first")
    there = merged.find(place)
    inside = there is not None and there.kind == stat.S_IFDIR
    if to.endswith(b"/") and there is not None and not inside:
        raise InvalidArgument(f"{os.fsdecode(to)} is no directory")
    if (inside or to.endswith(b"/")) and not _is_inside(path):
        name = split(path)[1]
        return place + b"/" + name if place else name
    return place


def _members(view: Shown, top: Seen, place: bytes, entries: Entries) -> Iterator[tuple[Member, Data]]:
    """Yield what is copied, under its new paths."""
    old = top.member.path

    def renamed(path: bytes) -> bytes:
        rest = path[len(old) :].strip(b"/")
        return place + b"/" + rest if place and rest else place or rest

    def all_seen() -> Iterator[Seen]:
        yield top
        if top.member.kind == stat.S_IFDIR:
            yield from walk(view, old)

    for seen in all_seen():
        if not entries.can_say(seen.member.path, seen):
            continue
        member = entries.item(seen, view).member
        if not place and member.path == old and top.member.kind == stat.S_IFDIR:
            continue  # the target's root stays as it is
        path = member.path
        target = renamed(member.target) if member.kind == 0 else member.target
        yield replace(member, path=renamed(path), target=target), _data(view, path)


def _data(view: Shown, path: bytes) -> CopySource:
    return CopySource(lambda: view.data(path), lambda fd: view.copy_to(path, fd))
