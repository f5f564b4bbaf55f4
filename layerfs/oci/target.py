"""The tree that a layer is written to, as the rules of `apply` see it; `directory` and `squash` have one each.

A target knows open directories (a handle of its own kind) and single names in them. It follows no symlink, and it
decides nothing: what a name that is taken means is the business of `apply`.
"""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final, Protocol

from layerfs.errors import Unsupported
from layerfs.oci.streams import UNPACKED_MAX
from layerfs.oci.tar import Member
from layerfs.snapshots.driver import Nesting
from layerfs.sys.namespaces import trusted_xattrs
from layerfs.sys.overlay import shows_nested
from layerfs.union.escape import device_marks
from layerfs.union.escape import stored as stored_name

Handle = Any  # a target's own: an open directory, or a file that is held on to
Data = Callable[[], Iterator[memoryview]]


@dataclass(frozen=True, slots=True)
class CopySource:
    """The bytes of an existing file, for a target that can copy them more cheaply than by reading (reflinks)."""

    read: Data
    copy_to: Callable[[int], None]  # into an empty file

    def __call__(self) -> Iterator[memoryview]:
        """Yield the bytes."""
        return self.read()


OVERLAYS: Final = (
    b"trusted.overlay.", b"user.overlay.",
    b"user.fuseoverlayfs.", b"security.fuseoverlayfs.", b"trusted.fuseoverlayfs.",
    b"user.containers.override_stat",
)  # fmt: skip
WHITEOUTS: Final = (b"trusted.overlay.whiteout", b"user.overlay.whiteout")


class EntryKind(Enum):
    """What stands at a name."""

    ABSENT = 0
    DIRECTORY = 1
    SYMLINK = 2
    WHITEOUT = 3
    OTHER = 4


class TargetForm(Enum):
    """What a directory is to a layer.

    OVERLAY: an empty upper; the layer's deletions become marks that overlays read.
    PLAIN: a tree that holds the layers below already; deletions delete.
    """

    OVERLAY = "overlay"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one layer may cost: its uncompressed bytes, the sum of its files' sizes, and its entries."""

    size: int = UNPACKED_MAX  # bytes
    entries: int = 2_000_000  # guessed: the largest layer that we know of has a tenth


USUAL: Final = Limits()


@dataclass(slots=True)
class Outcome:
    """What was written, and what the host could not hold and may be done without: (path, why)."""

    entries: int = 0
    size: int = 0
    waived: list[tuple[bytes, str]] = field(default_factory=list)
    waived_count: int = 0

    def waive(self, path: bytes, why: str) -> None:
        """Note what is left out; of many, the first thousand are kept."""
        self.waived_count += 1
        if len(self.waived) < 1000:
            self.waived.append((path, why))


class WrittenEntries(Protocol):
    """Entries that were written at once: where their headers are in the data, where the next one is, their bytes."""

    @property
    def headers(self) -> Sequence[int]: ...

    @property
    def next(self) -> int: ...

    @property
    def size(self) -> int: ...


# Write plain entries: into a directory, from bytes at a place, names that begin so, at most so many bytes and entries.
WriteRun = Callable[[Handle, bytes, int, bytes, int, int], WrittenEntries]


class Target(Protocol):
    """A tree in the making. Every method raises OSError; FileExistsError where a name is taken."""

    form: TargetForm

    @property
    def write_run(self) -> WriteRun | None:
        """What writes many plain entries at once; None where each needs the rules, or is written another way."""

    def root(self) -> Handle:
        """Return the root directory, open as long as the target."""

    def kind(self, at: Handle, name: bytes) -> EntryKind:
        """Tell what stands at a name."""

    def enter(self, at: Handle, name: bytes) -> Handle:
        """Open a directory; NotADirectoryError for anything else, a symlink too."""

    def leave(self, handle: Handle) -> None:
        """Close a directory that `enter` opened."""

    def names(self, at: Handle) -> list[bytes]:
        """List a directory."""

    def readlink(self, at: Handle, name: bytes) -> bytes:
        """Return a symlink's target."""

    def mkdir(self, at: Handle, name: bytes) -> None:
        """Make a directory whose metadata are set later."""

    def add(self, at: Handle, name: bytes, member: Member, data: Data) -> None:
        """Make a file, symlink, device or FIFO with all it has."""

    def set_metadata(self, handle: Handle, member: Member) -> None:
        """Set a directory's owner, mode and xattrs; xattrs that the entry does not name are removed."""

    def time(self, handle: Handle) -> int:
        """Return a directory's time [ns]."""

    def set_time(self, handle: Handle, mtime_ns: int) -> None:
        """Set a directory's time [ns]."""

    def remove(self, at: Handle, name: bytes) -> None:
        """Remove a name and all below it."""

    def hold(self, at: Handle, name: bytes) -> Handle | None:
        """Hold on to what is no directory, so that it can be linked to; None if there is nothing."""

    def drop(self, held: Handle) -> None:
        """Let go of it."""

    def link(self, held: Handle, at: Handle, name: bytes) -> None:
        """Give it another name."""

    def same(self, held: Handle, at: Handle, name: bytes) -> bool:
        """Tell whether a name is already one of its names."""

    def whiteout(self, at: Handle, name: bytes) -> None:
        """Hide a name of the layers below (OVERLAY)."""

    def set_opaque(self, handle: Handle) -> None:
        """Hide all that the layers below have in a directory (OVERLAY)."""

    def is_opaque(self, handle: Handle) -> bool:
        """Tell whether that was done."""

    def finish(self, outcome: Outcome) -> None:
        """Complete the tree as a whole."""


def as_stored(member: Member, nesting: Nesting) -> Member:
    """Return an entry as an overlay's layer holds it: what an overlay would take for its own mark gets another name.

    So a stranger's layer gives no orders, and what an overlay in a container left is content, as far as the mounts of
    the layer can show it. Raises Unsupported, naming it, for the rest.
    """
    if member.kind == stat.S_IFCHR and member.major == member.minor == 0:
        if nesting is not Nesting.UNION:
            raise _refused(member, "is the character device 0/0, which an overlay would take for a whiteout")
        marks = {name: value for name, value in member.xattrs.items() if name not in WHITEOUTS}
        stored = as_stored(replace(member, kind=stat.S_IFREG, xattrs=marks), nesting)
        device = {os.fsencode(name): value for name, value in device_marks(os.fsdecode(own_prefix())).items()}
        return replace(stored, xattrs=stored.xattrs | device)
    if not any(map(_is_mark, member.xattrs)):
        return member
    return replace(member, xattrs={_stored(member, name, nesting): value for name, value in member.xattrs.items()})


def _is_mark(name: bytes) -> bool:
    return name.startswith(OVERLAYS)


def _stored(member: Member, name: bytes, nesting: Nesting) -> bytes:
    """Return the name under which an xattr is kept."""
    if not _is_mark(name):
        return name
    own = own_prefix()
    if nesting is Nesting.KERNEL and name.startswith(b"trusted.") and own == b"user.overlay.":
        return name  # nobody sets it here, and it is left out with a warning
    if nesting is Nesting.UNION or (nesting is Nesting.KERNEL and name.startswith(own) and shows_nested(own)):
        return os.fsencode(stored_name(os.fsdecode(name)))
    raise _refused(member, f"has the xattr {os.fsdecode(name)}, which an overlay would take for its own")


def own_prefix() -> bytes:
    """Return how the marks of our overlays begin: root's, or those in a user namespace."""
    return b"trusted.overlay." if trusted_xattrs() else b"user.overlay."


def _refused(member: Member, why: str) -> Unsupported:
    path = member.path.decode(errors="backslashreplace")
    return Unsupported(f"/{path} {why}", "unpack with --snapshotter fuse, which shows it as content")
