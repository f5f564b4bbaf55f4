"""A layer written to a target: what its entries mean, in whatever order they come.

- A whiteout or an opaque marker hides what the layers below have, never what the layer itself brings.
- Of several entries for one path the last one counts.
- Hard links are made when all else is there; their targets may be in the layers below.
- A parent without an entry keeps what it is in the layers below, else it is 0755, root's, with time 0.
- `..` and absolute names stay within the root, and nothing is followed but symlinks of the layer, within the root.

While it works it remembers a few bytes for each directory, and more for each hard link and each parent without an
entry; for a PLAIN target also a number for each entry.
"""

import errno
import os
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

from layerfs.errors import Corrupt, InvalidArgument
from layerfs.oci.batches import Runs
from layerfs.oci.below import Below, resolve
from layerfs.oci.links import PendingLinks
from layerfs.oci.marks import LayerMarks, opaque
from layerfs.oci.paths import LINKS, WH, clamp, split
from layerfs.oci.resolve import Resolver
from layerfs.oci.streams import MORE
from layerfs.oci.sweep import Sweep
from layerfs.oci.tar import HARD_LINK, Member, TarReader
from layerfs.oci.target import USUAL, Data, EntryKind, Handle, Limits, Outcome, Target, TargetForm

_PARENT: Final = Member(b"", stat.S_IFDIR, 0o755, 0, 0, 0)  # without an entry anywhere

_DEFAULT_ACL: Final = b"system.posix_acl_default"


@dataclass(frozen=True, slots=True)
class Rules:
    """How a layer is applied. `check` is called for each entry and may raise, to cancel.

    below: the layers below an OVERLAY target; None if they are not known: then whiteouts of what is not there stay as
    ghosts, and a whiteout of everything cannot be written. whole: the layer is all that the target will hold, so a root
    without an entry looks as the one below.
    """

    below: Below | None = None
    limits: Limits = USUAL
    check: Callable[[], None] = lambda: None
    whole: bool = True


def apply_tar(pieces: Iterable[bytes], target: Target, outcome: Outcome, rules: Rules) -> None:
    """Write a layer's uncompressed tar to a target, to the end of the stream.

    Raises Corrupt or InvalidArgument for a layer that cannot be, OSError; the target is then to be thrown away.
    """
    reader = TarReader(pieces)
    application = Application(reader, target, outcome, rules)
    runs = None
    if (write := target.write_run) is not None:
        runs = Runs(reader, write, application.resolver, application.links, outcome, rules)
    try:
        for member in reader:
            application.entry(member)
            if runs is not None:
                runs.write()
        application.finish()
    finally:
        application.resolver.close()


class Reader(Protocol):
    """The source of the current entry's bytes."""

    @property
    def data(self) -> Data:
        """Yields them."""


class Application:
    """One layer on its way into one target."""

    def __init__(self, reader: Reader, target: Target, outcome: Outcome, rules: Rules) -> None:
        self.reader = reader
        self.target = target
        self.outcome = outcome
        self.rules = rules
        self.plain = target.form is TargetForm.PLAIN
        self.links = PendingLinks()
        self.implicit: dict[bytes, None] = {}  # directories without an entry: the upper's root, parents
        self.placed: set[int] = set()  # hashes of paths with an entry, in a PLAIN target
        self.holding: set[int] = set()  # those and all above them
        self.touched: set[int] = set()  # hashes of directories of the layers below, in a PLAIN target
        self.dates = _Dates()
        self.inherited: dict[bytes, Member] = {}  # directories whose default ACL would go on to what is made in them
        self.resolver = Resolver(target, self.is_ours, self.made)
        self.marks = LayerMarks(target, self.resolver, rules.below)
        self.stash = False
        if rules.whole and not self.plain and rules.below is not None:
            self.implicit[b""] = None

    def is_ours(self, path: bytes) -> bool:
        """Tell whether this layer put something at a path; all that an upper holds is ours."""
        return not self.plain or hash(path) in self.placed

    def touch(self, found: tuple[Handle, bytes]) -> None:
        """Keep the time of a directory of the layers below in which something is about to change (PLAIN)."""
        if (key := hash(found[1])) not in self.placed and key not in self.touched:
            self.touched.add(key)
            self.dates.add(found[1], self.target.time(found[0]))
            path = found[1]
            while path and hash(path) not in self.holding:
                self.holding.add(hash(path))
                path = split(path)[0]

    def made(self, path: bytes, deleted: bool) -> None:
        """Take note of a directory that was made for what is in it, perhaps in place of a whiteout."""
        self.implicit[path] = None
        if deleted:
            self.marks.deleted.add(path)

    def entry(self, member: Member) -> None:
        """Apply one entry."""
        self.count(member)
        path = clamp(member.path)
        if not path:
            return self.root(member)
        if WH in path and (path.startswith(WH) or b"/.wh." in path):
            if not self.is_stash(path):
                return self.marks.mark(path)
        if member.kind == HARD_LINK:
            self.links.add(path, clamp(member.target))
            return
        if self.links:
            self.links.forget(path)
        above, name = split(path)
        found = self.resolver.directory(above, make=True)
        true = found[1] + b"/" + name if found[1] else name
        if self.plain:
            self.touch(found)
            if member.kind != stat.S_IFDIR:
                self.demand_nothing_below(true)
            self.placed.add(hash(true))
        if member.kind == stat.S_IFDIR:
            self.directory(found[0], name, true, member)
        else:
            self.add(found[0], name, true, member, self.reader.data)

    def count(self, member: Member) -> None:
        self.rules.check()
        self.outcome.entries += 1
        self.outcome.size += member.size
        if self.outcome.entries > self.rules.limits.entries:
            raise InvalidArgument(f"the layer has more than {self.rules.limits.entries} entries")
        if self.outcome.size > self.rules.limits.size:
            raise InvalidArgument(f"the layer's files have more than {self.rules.limits.size} bytes", MORE)

    def root(self, member: Member) -> None:
        if member.kind != stat.S_IFDIR:
            raise Corrupt("the layer's root is no directory")
        self.implicit.pop(b"", None)
        self.target.set_metadata(self.target.root(), self.without_default(b"", member))
        self.dates.add(b"", member.mtime_ns)

    def directory(self, at: Handle, name: bytes, path: bytes, member: Member) -> None:
        """Make a directory, or merge with the one that is there, and give it what the entry says."""
        self.implicit.pop(path, None)
        try:
            self.target.mkdir(at, name)
        except FileExistsError:
            kind = self.target.kind(at, name)
            if kind is not EntryKind.DIRECTORY:
                self.replace(at, name, kind)
                self.target.mkdir(at, name)
                if kind is EntryKind.WHITEOUT:
                    opaque(self.target, at, name)
        found = self.resolver.directory(path, make=True)
        self.target.set_metadata(found[0], self.without_default(path, member))
        self.dates.add(path, member.mtime_ns)

    def without_default(self, path: bytes, member: Member) -> Member:
        """Keep a directory's default ACL for the end: what is made in it until then has what its entry says."""
        self.inherited.pop(path, None)
        if _DEFAULT_ACL not in member.xattrs:
            return member
        self.inherited[path] = member
        return replace(member, xattrs={name: acl for name, acl in member.xattrs.items() if name != _DEFAULT_ACL})

    def add(self, at: Handle, name: bytes, path: bytes, member: Member, data: Data) -> None:
        """Make what is no directory; what is in the way goes."""
        if (member.kind == stat.S_IFLNK and not member.target) or b"\0" in member.target:
            raise Corrupt(f"the layer has a symlink to nothing: {path!r}")
        try:
            self.target.add(at, name, member, data)
        except FileExistsError:
            kind = self.target.kind(at, name)
            if kind is EntryKind.DIRECTORY:
                self.demand_nothing_below(path)
            self.replace(at, name, kind)
            self.target.add(at, name, member, data)

    def demand_nothing_below(self, path: bytes) -> None:
        """Raise Corrupt if the layer has something below a path that is to be no directory, and no directory there."""
        if path in self.implicit or (hash(path) in self.holding and hash(path) not in self.placed):
            raise Corrupt(f"the layer has an entry below {path!r}, which is no directory")

    def replace(self, at: Handle, name: bytes, kind: EntryKind) -> None:
        """Remove what is at a name, and forget the open directories: paths through it lead elsewhere now."""
        self.target.remove(at, name)
        if kind in (EntryKind.DIRECTORY, EntryKind.SYMLINK):
            self.resolver.forget()

    def is_stash(self, path: bytes) -> bool:
        """Tell whether a path is a file that aufs kept for hard links; it is removed at the end."""
        if path.startswith(LINKS + b"/") and WH not in path[len(LINKS) :]:
            self.stash = True
            return True
        return False

    # The end

    def finish(self) -> None:
        """Do what can only be done when all entries are known; times come last."""
        if not self.plain:
            self.marks.write()
        self.make_links()
        if self.stash:
            self.target.remove(self.target.root(), LINKS)
            self.resolver.forget()
            self.implicit.pop(LINKS, None)
        if self.plain:
            Sweep(self).all(self.marks.pending)
        for path, member in self.inherited.items():
            found = self.resolver.directory(path, make=False, follow=False)
            if found is not None:
                self.target.set_metadata(found[0], member)
        for path in self.implicit:
            self.set_parent_metadata(path)
        for path, mtime_ns in self.dates:
            found = self.resolver.directory(path, make=False, follow=False)
            if found is not None:
                self.target.set_time(found[0], mtime_ns)
        self.target.finish(self.outcome)

    def set_parent_metadata(self, path: bytes) -> None:
        """Give a directory without an entry what it has in the layers below, or what all such get."""
        below = self.rules.below
        covered = path in self.marks.deleted or self.marks.is_covered(split(path)[0])
        known = below.find(path) if below is not None and not covered else None
        member = replace(known if known is not None and known.kind == stat.S_IFDIR else _PARENT, path=path)
        found = self.resolver.directory(path, make=False, follow=False)
        if found is not None:
            self.target.set_metadata(found[0], member)
            self.dates.add(path, member.mtime_ns)

    def make_links(self) -> None:
        for target, names in self.links.groups():
            for path in names:
                if target.startswith(path + b"/"):
                    raise _inside_out(path)
            held = self.held(target)
            if held is None:
                held = self.held_from_below(target, names)
            try:
                for path in names:
                    self.rules.check()
                    self.link(held, path)
            finally:
                self.target.drop(held)

    def held(self, path: bytes) -> Handle | None:
        """Hold on to what is at a path of the target; None if there is nothing, or a mark."""
        above, name = split(path)
        found = self.resolver.directory(above, make=False)
        if found is None and self.plain:  # the layers below are here too, and their symlinks
            found = self.resolver.through_all(above)
        if found is None or not name:
            return None
        kind = self.target.kind(found[0], name)
        if kind is EntryKind.DIRECTORY:
            raise Corrupt(f"the layer has a hard link to the directory {path!r}")
        return None if kind in (EntryKind.ABSENT, EntryKind.WHITEOUT) else self.target.hold(found[0], name)

    def held_from_below(self, target: bytes, names: list[bytes]) -> Handle:
        """Copy a file of the layers below up, as the first of the names if its own is hidden."""
        below = self.rules.below
        member = None
        if below is not None and target:
            target = self.true_path(below, target)
            member = below.find(target)
        if below is None or member is None or member.kind == stat.S_IFDIR:
            raise Corrupt(f"the layer has a hard link to what is not there: {target!r}")
        path = names.pop(0) if self.is_gone(target) else target
        above, name = split(path)
        found = self.resolver.directory(above, make=True)
        member.path = path
        true = found[1] + b"/" + name if found[1] else name
        self.add(found[0], name, true, member, lambda: below.data(target))
        held = self.target.hold(found[0], name)
        if held is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), true)
        return held

    def true_path(self, below: Below, path: bytes) -> bytes:
        """Return a path of the layers below without symlinks among its parents, as link(2) would follow them."""
        above, name = split(path)
        true = resolve(below, above)
        return path if true is None else true + b"/" + name if true else name

    def is_gone(self, path: bytes) -> bool:
        """Tell whether this layer hides a file of the layers below."""
        above, name = split(path)
        found = self.resolver.directory(above, make=False, follow=False)
        if found is None:
            return not self.marks.is_hidable(above)
        return self.target.kind(found[0], name) is EntryKind.WHITEOUT or self.marks.is_covered(above)

    def link(self, held: Handle, path: bytes) -> None:
        above, name = split(path)
        found = self.resolver.directory(above, make=True)
        true = found[1] + b"/" + name if found[1] else name
        self.demand_nothing_below(true)
        if self.plain:
            self.touch(found)
            self.placed.add(hash(true))
        if self.target.same(held, found[0], name):
            return
        try:
            self.target.link(held, found[0], name)
        except FileExistsError:
            self.replace(found[0], name, self.target.kind(found[0], name))
            try:
                self.target.link(held, found[0], name)
            except FileNotFoundError:  # it was in there
                raise _inside_out(path) from None


def _inside_out(path: bytes) -> Corrupt:
    return Corrupt(f"the layer has a hard link in place of the directory that its target is in: {path!r}")


class _Dates:
    """Directories and their times, in little memory, to be set when nothing changes in them any more."""

    def __init__(self) -> None:
        self._paths = bytearray()
        self._times = array("q")

    def add(self, path: bytes, mtime_ns: int) -> None:
        """Note a time; a later one for the same path counts."""
        self._paths += path + b"\0"
        self._times.append(mtime_ns)

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        at = 0
        for mtime_ns in self._times:
            end = self._paths.index(0, at)
            yield bytes(self._paths[at:end]), mtime_ns
            at = end + 1
