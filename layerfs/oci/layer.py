"""A layer from a stream into a directory: the one call that snapshots, the daemon and builds use.

It may be called from any thread, any number at once. To cancel it, let `check` raise.
"""

from collections.abc import Callable
from dataclasses import dataclass

from layerfs.oci.apply import Rules, apply_tar
from layerfs.oci.below import Below
from layerfs.oci.digest import Digest, expect
from layerfs.oci.directory import DirectoryTarget
from layerfs.oci.metadata import Ownership, usual_ownership
from layerfs.oci.streams import LayerStream, Read
from layerfs.oci.target import USUAL, Limits, Outcome, TargetForm
from layerfs.snapshots.driver import Nesting
from layerfs.sys import dirs


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a layer goes, and how. `root`: a directory, open for reading, which stays the caller's.

    below: see `Rules`. marks: the prefix of xattrs that the overlay will look for (`trusted.overlay.` or
    `user.overlay.`); None takes the first that can be set. nesting: what it shows of overlays in containers.
    """

    root: int
    form: TargetForm = TargetForm.OVERLAY
    below: Below | None = None
    ownership: Ownership | None = None
    marks: bytes | None = None
    nesting: Nesting = Nesting.NONE


@dataclass(frozen=True, slots=True)
class Expected:
    """What the layer's digests must be, as far as that is known: of the stream as it comes, and of its tar.

    is_checked: somebody has just read the stream and found `packed` right, so that `diff_id` alone is to be seen to.
    """

    packed: Digest | None = None
    diff_id: Digest | None = None
    is_checked: bool = False

    @property
    def known(self) -> Digest | None:
        """The digest of the stream if it need not be computed."""
        return self.packed if self.is_checked and self.diff_id is not None else None


UNKNOWN = Expected()


def pack_layer(
    read: Read,
    path: bytes,
    below: Below | None,
    expected: Expected = UNKNOWN,
    *,
    nesting: Nesting = Nesting.NONE,
    limits: Limits = USUAL,
    check: Callable[[], None] = lambda: None,
) -> "Applied":
    """Make a XAR of a layer, at `path`, in one pass; nothing is there if anything is wrong.

    Raises as `apply_layer`; Unsupported for what no squashfs image can hold.
    """
    from layerfs.oci.squash import packing

    outcome = Outcome()
    stream = LayerStream(read, check, limits.size, expected.known)
    with packing(path, nesting) as target:
        apply_tar(stream, target, outcome, Rules(below, limits, check))
        return _applied(stream, expected, outcome)


@dataclass(frozen=True, slots=True)
class Applied:
    """What was applied: digests and lengths [bytes] of both forms, and what was written and waived."""

    packed: Digest
    packed_size: int
    diff_id: Digest
    size: int
    compression: str
    outcome: Outcome


def apply_layer(
    read: Read,
    to: Destination,
    expected: Expected = UNKNOWN,
    *,
    limits: Limits = USUAL,
    check: Callable[[], None] = lambda: None,
) -> Applied:
    """Write the layer that `read` gives, compressed or not, to its destination.

    If anything is wrong an empty upper is empty again; a PLAIN tree is then half changed and to be thrown away.
    Raises Corrupt for a layer or digest that is wrong, InvalidArgument beyond the limits, Unsupported, OSError.
    """
    outcome = Outcome()
    stream = LayerStream(read, check, limits.size, expected.known)
    target = DirectoryTarget(
        to.root,
        to.form,
        outcome=outcome,
        ownership=to.ownership or usual_ownership(),
        marks=to.marks,
        nesting=to.nesting,
    )
    try:
        apply_tar(stream, target, outcome, Rules(to.below, limits, check))
        return _applied(stream, expected, outcome)
    except BaseException:
        if to.form is TargetForm.OVERLAY:
            dirs.empty(to.root)
        raise


def _applied(stream: LayerStream, expected: Expected, outcome: Outcome) -> Applied:
    """Check the digests of a layer that has been read to its end."""
    expect("the layer", expected.packed, stream.packed.digest)
    expect("the layer's tar", expected.diff_id, stream.unpacked.digest)
    packed, unpacked = stream.packed, stream.unpacked
    return Applied(packed.digest, packed.size, unpacked.digest, unpacked.size, stream.compression, outcome)
