"""What of a directory can be answered from a stat of one layer."""

from pathlib import Path

import pytest

from layerfs.union.handed import ASK, SUBDIRECTORY
from layerfs.union.options import UnionOptions
from tests.oracle.trees import Marks as Style
from tests.oracle.trees import file
from tests.union.box import Box

TOP = {b"a": file(b"1"), b"sub/x": file(b"x")}
BELOW = {b"b": file(b"2"), b"a": file(b"hidden")}


def test_each_name_is_at_the_layer_that_shows_it_and_the_uppers_are_the_unions(scratch: Path) -> None:
    with Box(scratch, TOP, BELOW, upper={b"own": file(b"o")}) as box:
        root = box.union.root()
        assert box.union.hand_over(root) is None, "it is not loaded"
        box.union.names(1)
        found = box.union.hand_over(root)
        assert found is not None
        layers = {part.tree.path: index for index, part in enumerate(found.parts)}
        top, below = layers[box.layer(1)], layers[box.layer(2)]
        places = dict(zip(found.names, found.places, strict=True))
        assert places == {b"a": top, b"b": below, b"sub": top | SUBDIRECTORY, b"own": ASK}
        assert found.parent == 1 and len(found.ranks) == 1


def test_filesystems_of_images_are_left_out(scratch: Path) -> None:
    """A front was told their numbers, which are no devices, and refused: the first lookup was an EIO."""
    with Box(scratch, TOP) as box:
        for device in (-1, 1 << 64):
            box.ov.numbers.of(device, 7)
        box.union.names(1)
        found = box.union.hand_over(box.union.root())
        assert found is not None and len(found.ranks) == 1


def test_a_removed_directory_has_nothing_to_hand_over(scratch: Path) -> None:
    with Box(scratch, {b"d/f": file(b"x")}) as box:
        with box.node(b"d") as node:
            box.union.unlink(node.ino, b"f")
            box.union.rmdir(1, b"d")
            assert box.union.hand_over(box.union.directory(node.ino)) is None


@pytest.mark.parametrize("options", [UnionOptions(squash_gid=1), UnionOptions(metacopy=True)])
def test_where_a_stat_is_not_enough_nothing_is_handed_over(scratch: Path, options: UnionOptions) -> None:
    with Box(scratch, TOP, options=options) as box:
        box.union.names(1)
        assert box.union.hand_over(box.union.root()) is None


@pytest.mark.parametrize(
    ("upper", "options", "makes"),
    [
        ({b"own": file(b"o")}, UnionOptions(), True),
        ({b".wh.a": file(b"")}, UnionOptions(), False),  # nothing at the name tells of it
        ({b"own": file(b"o")}, UnionOptions(acl=False), False),
    ],
)
def test_others_may_make_files_where_a_whiteout_is_at_the_name(
    scratch: Path, upper: dict[bytes, object], options: UnionOptions, makes: bool
) -> None:
    with Box(scratch, TOP, upper=upper, options=options, marks=Style.OCI) as box:  # type: ignore[arg-type]
        box.union.names(1)
        found = box.union.hand_over(box.union.root())
        assert found is not None and found.makes is makes
