"""A layer as an image, read back."""

import os
import struct
from pathlib import Path

from layerfs.plan.contents import LayerContents, slices
from layerfs.plan.images import ImageForm, names_of, version_of, write_layer
from layerfs.plan.tree import UNOWNED
from layerfs.pysquashfs import SquashfsImage
from layerfs.xar.package import opened
from tests.plan.scenes import opened_source
from tests.plan.trees import make_house, words_of

NOBODY = 0xFFFFFFFF  # linux/posix_acl.h: ACL_UNDEFINED_ID
LAYERS = [(0, ["lib", "app", "words", UNOWNED])]


def written(graph: Path, path: Path, form: ImageForm) -> list[tuple[bytes, bytes]]:
    dropped: list[tuple[bytes, bytes]] = []
    with opened_source(words_of(graph)) as source:
        assert source.tree is not None
        piece = slices(source.tree, LAYERS)[0]
        digest = LayerContents(source.tree, piece, form.recipe).drain()
        contents = LayerContents(source.tree, piece, form.recipe)
        write_layer(os.fsencode(path), contents, form, digest, lambda *what: dropped.append(what))
        assert contents.digest == digest
    return dropped


def test_a_xar_holds_the_tree_and_its_version_is_the_contents(scratch: Path) -> None:
    graph = make_house(scratch)
    form = ImageForm(xar=True, depends=("b.xar", "a.xar"), level=1)
    written(graph, scratch / "x.xar", form)
    with opened(os.fsencode(scratch / "x.xar")) as package:
        assert package.header is not None
        assert package.header.dependencies == ("b.xar", "a.xar")
        found = dict(package.image.walk())
        one = found[b"lib/one"]
        assert package.image.read(one.ref, 0, one.size) == (scratch / "src/lib/one").read_bytes()
        assert found[b"etc/empty"].mode & 0o7777 == 0o700
        assert found[b"lib/deep/two"].ref == one.ref
    assert len(package.header.version) > 30


def test_a_mode_without_its_acl_permits_nobody_more(scratch: Path) -> None:
    """The owning group had what the mask permits."""
    graph = make_house(scratch)
    one = scratch / "src/lib/one"
    entries = [(0x01, 6, NOBODY), (0x02, 6, 7), (0x04, 0, NOBODY), (0x10, 6, NOBODY), (0x20, 0, NOBODY)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(one, "system.posix_acl_access", acl)
    assert one.stat().st_mode & 0o777 == 0o660
    dropped = written(graph, scratch / "x.sqfs", ImageForm(xar=False, level=1))
    assert (b"lib/one", b"system.posix_acl_access") in dropped or (
        b"lib/deep/two",
        b"system.posix_acl_access",
    ) in dropped
    with SquashfsImage(scratch / "x.sqfs") as image:
        assert dict(image.walk())[b"lib/one"].mode & 0o7777 == 0o600


def test_a_bare_image_has_no_header(scratch: Path) -> None:
    written(make_house(scratch), scratch / "x.sqfs", ImageForm(xar=False, level=1))
    assert (scratch / "x.sqfs").read_bytes()[:4] == b"hsqs"


def test_names_and_versions() -> None:
    assert names_of([3, 1, 0], "app", ".xar") == ["app-3.xar", "app-1.xar", "app.xar"]
    assert version_of("00" * 15 + "ff" + "11" * 16) == "255"
