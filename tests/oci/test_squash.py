"""Layers packed in one pass: what a directory would hold is in the image, and never half of it."""

import os
from pathlib import Path

import pytest

from layerfs.errors import Corrupt, Unsupported
from layerfs.oci.below import NothingBelow
from layerfs.oci.digest import EMPTY
from layerfs.oci.layer import Expected, pack_layer
from tests.oci.tars import END, directory, feeder, file, header, link, look, packed, pax, symlink

ALL = [
    directory(b"d", mode=0o2711, uid=7), pax({b"SCHILY.xattr.user.x": b"\0y"}) + file(b"d/f", b"f" * 300_000,
    mode=0o4755),
    link(b"l", b"d/f"), symlink(b"s", b"t"), header(b"fifo", b"6"), header(b"dev", b"3", major=1, minor=3),
    file(b"twice", b"old" * 100), file(b"twice", b"new"), file(b"d/f2", b"f" * 300_000), END,
]  # fmt: skip


def test_everything_is_in_the_image(scratch: Path) -> None:
    (tree,) = packed([b"".join(ALL)], scratch)
    found = look(tree)
    assert (found["d"].mode, found["d"].owner) == (0o2711, (7, 0))
    assert (found["d/f"].content, found["d/f"].mode, found["d/f"].names) == (b"f" * 300_000, 0o4755, 2)
    assert found["d/f"].xattrs == (("user.x", b"\0y"),)
    assert [found[name].kind for name in ("l", "s", "fifo", "dev", "twice")] == ["f", "l", "p", "c", "f"]
    assert (found["dev"].rdev, found["twice"].content) == (os.makedev(1, 3), b"new")


def test_sparse_file_takes_no_space(scratch: Path) -> None:
    records = {b"GNU.sparse.major": b"1", b"GNU.sparse.realsize": b"%d" % (1 << 30), b"GNU.sparse.name": b"holes"}
    data = b"1\n%d\n3\n" % (1 << 29)
    packed([pax(records) + file(b"x", data.ljust(512, b"\0") + b"mid") + END], scratch)
    assert (scratch / "layer0.xar").stat().st_size < 1 << 20
    with (scratch / "layer0/holes").open("rb") as file_:
        file_.seek(1 << 29)
        assert file_.read(4) == b"mid\0"


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (file(b"f", bytes(5000))[:700], Expected()),
        (file(b"f") + END, Expected(diff_id=EMPTY)),
        (link(b"a", b"b") + END, Expected()),
    ],
)
def test_wrong_layer_leaves_nothing(layer: bytes, expected: Expected, scratch: Path) -> None:
    with pytest.raises(Corrupt):
        pack_layer(feeder(layer), bytes(scratch / "i"), NothingBelow(), expected)
    assert os.listdir(scratch) == []


@pytest.mark.parametrize("record", [(b"SCHILY.xattr.system.posix_acl_access", b"x"), (b"mtime", b"4294967296")])
def test_what_no_image_can_hold_is_said(record: tuple[bytes, bytes], scratch: Path) -> None:
    layer = pax(dict([record])) + file(b"f") + END
    with pytest.raises(Unsupported):
        pack_layer(feeder(layer), bytes(scratch / "i"), NothingBelow())
    assert os.listdir(scratch) == []
