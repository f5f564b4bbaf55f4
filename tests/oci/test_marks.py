"""Marks of a layer whose lower layers are not known, as when layers are unpacked each for itself."""

from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument
from tests.oci.tars import END, apply, brief, directory, entry_of, file

pytestmark = pytest.mark.usefixtures("each_way")


def test_without_the_layers_below_every_whiteout_is_written(scratch: Path) -> None:
    apply(file(b"d/.wh.a") + file(b".wh.b") + directory(b"e") + file(b"e/.wh..wh..opq") + END, scratch / "t")
    assert brief(scratch / "t") == {"d": "d", "d/a": "c", "b": "c", "e": "d"}
    assert dict(entry_of(scratch / "t/e").xattrs) == {"trusted.overlay.opaque": b"y"}


def test_without_the_layers_below_the_root_cannot_be_opaque(scratch: Path) -> None:
    with pytest.raises(InvalidArgument, match="not known"):
        apply(file(b".wh..wh..opq") + END, scratch / "t")


def test_mark_below_what_the_layer_replaced_means_nothing(scratch: Path) -> None:
    apply(
        file(b"f", b"1") + file(b"f/.wh.x") + file(b"f/.wh..wh..opq") + file(b"g/.wh.x") + file(b"g", b"2") + END,
        scratch / "t",
    )
    assert brief(scratch / "t") == {"f": "f:1", "g": "f:2"}
