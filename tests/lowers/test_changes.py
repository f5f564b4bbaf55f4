"""What an upper changes of its lowers, at any depth, also where these are images."""

import os
from pathlib import Path

import pytest

from layerfs.lowers.changes import Action, PathChange, changes, changes_by_marks
from tests.host import require
from tests.images import make_image

DEEP = 600  # directories in one another; Python recurses over a thousand frames at most


@pytest.fixture
def lower(scratch: Path) -> Path:
    """A directory with what an upper changes."""
    for name in ("kept", "changed", "gone"):
        (scratch / "lower/dir").mkdir(parents=True, exist_ok=True)
        (scratch / f"lower/dir/{name}").write_text(name)
    return scratch / "lower"


@pytest.fixture
def upper(scratch: Path) -> Path:
    """What somebody has written over it."""
    (scratch / "upper/dir/new").mkdir(parents=True)
    (scratch / "upper/dir/changed").write_text("other")
    (scratch / "upper/dir/.wh.gone").touch()
    return scratch / "upper"


EXPECTED = [
    PathChange(b"/dir/changed", Action.MODIFIED),
    PathChange(b"/dir/gone", Action.DELETED),
    PathChange(b"/dir/new", Action.ADDED),
]


@pytest.mark.parametrize("packed", [False, True], ids=["directory", "image"])
@pytest.mark.parametrize("before", [0, 12_345], ids=["bare", "inside a file"])
def test_changes_of_a_directory_and_of_an_image_are_the_same(
    lower: Path, upper: Path, scratch: Path, packed: bool, before: int
) -> None:
    layer = lower
    if packed:
        require("mksquashfs")
        layer = scratch / "part"
        layer.write_bytes(b"\x7fELF".ljust(before, b"\0")[:before] + make_image(scratch / "i", lower).read_bytes())
    found = changes(os.fsencode(upper), (os.fsencode(layer),), before if packed else 0)
    assert [change for change in found if change.path != b"/dir"] == EXPECTED


def test_without_lowers_the_upper_s_marks_are_read_alone(upper: Path) -> None:
    assert PathChange(b"/dir/gone", Action.DELETED) in changes_by_marks(os.fsencode(upper))


def test_depth_ends_nothing(scratch: Path, lower: Path) -> None:
    """Six hundred directories ended it."""
    deep = scratch / "deep"
    os.makedirs(os.fsencode(deep) + b"/d" * DEEP)
    assert len(changes_by_marks(os.fsencode(deep))) == DEEP
    assert len([c for c in changes(os.fsencode(deep), (os.fsencode(lower),)) if c.action is Action.ADDED]) == DEEP
