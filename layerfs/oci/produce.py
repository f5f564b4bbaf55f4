"""A layer from a snapshot's difference to its parents: the one call that commits, exports and the daemon use.

It may be called from any thread, any number at once. To cancel it, let `check` raise.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from layerfs.lowers.kinds import open_tree
from layerfs.oci.below import Below, NothingBelow, UnionBelow
from layerfs.oci.differ import Report, changes, differences
from layerfs.oci.digest import Digest
from layerfs.oci.pack import Packer
from layerfs.oci.target import TargetForm
from layerfs.oci.view import RawView, View
from layerfs.oci.write import EXACT, Item, Style, Write, write_tar

Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Difference:
    """What is to be written: a snapshot's own content, and what is below it; paths of directories or images.

    OVERLAY: `below` are the parents' layers, nearest first. PLAIN: at most one tree, of which `own` is the successor.
    snapshot: `own` was made of it by the filesystem (btrfs), so that inode numbers and ctimes tell what has changed.
    """

    own: bytes
    form: TargetForm = TargetForm.OVERLAY
    below: Sequence[bytes] = ()
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Produced:
    """A layer that was written: digests and lengths [bytes], and what could not be said in it: (path, why)."""

    packed: Digest
    packed_size: int
    diff_id: Digest
    size: int
    compression: str
    left_out: tuple[tuple[bytes, str], ...]


def produce_layer(
    difference: Difference, write: Write, compression: str = "", *, style: Style = EXACT, check: Check = lambda: None
) -> Produced:
    """Write the layer that makes `below` what the snapshot is; the same trees give the same bytes.

    Raises InvalidArgument for a compression that layers do not have, Corrupt if files change meanwhile, OSError.
    """
    left_out: list[tuple[bytes, str]] = []
    packer = Packer(write, compression, check)
    with entries(difference, lambda path, why: left_out.append((path, why))) as items:
        write_tar(items, packer.write, style)
    packer.finish()
    packed, unpacked = packer.packed, packer.unpacked
    return Produced(packed.digest, packed.size, unpacked.digest, unpacked.size, compression, tuple(left_out))


@contextmanager
def entries(difference: Difference, report: Report) -> Iterator[Iterator[Item]]:
    """Open what a difference is made of and give its entries."""
    with ExitStack() as held:
        own = held.enter_context(RawView(open_tree(difference.own, 0)))
        if difference.form is TargetForm.PLAIN:
            before: View = NothingBelow()
            if difference.below:
                before = held.enter_context(RawView(open_tree(difference.below[0], 0)))
            yield differences(before, own, report, snapshot=difference.snapshot)
            return
        below: Below = NothingBelow()
        if difference.below:
            below = held.enter_context(UnionBelow(difference.below))
        merged: list[UnionBelow] = []

        def opened() -> UnionBelow:
            if not merged:
                merged.append(held.enter_context(UnionBelow((difference.own, *difference.below), metacopy=True)))
            return merged[0]

        yield changes(own, below, opened, report)
