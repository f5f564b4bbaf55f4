"""What may be a layer is told by its type and its first bytes; what is neither is refused, and never waited for."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from layerfs.errors import Corrupt, InvalidArgument
from layerfs.lowers.kinds import LayerKind, Lower, is_image, look, open_tree
from layerfs.model import Stack
from layerfs.union.layers import DirTree
from layerfs.union.options import UnionOptions
from layerfs.union.union import Union
from layerfs.xar.header_writer import make_header
from tests.host import require
from tests.images import make_image
from tests.waiting import PATIENCE

INSIDE = 12_345  # bytes before an image that is a part of another file; AppImages align to nothing


@pytest.fixture
def image(scratch: Path) -> Path:
    """An image with one file, `hello`."""
    require("mksquashfs")
    (scratch / "tree").mkdir()
    (scratch / "tree/hello").write_text("hello")
    return make_image(scratch / "image", scratch / "tree")


@pytest.fixture
def device(image: Path) -> Iterator[bytes]:
    """A block device that shows the image."""
    require("root", "losetup")
    command = ["losetup", "--find", "--show", "--read-only", str(image)]
    name = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE).stdout.strip()
    try:
        yield os.fsencode(name)
    finally:
        subprocess.run(["losetup", "--detach", name], check=True, timeout=PATIENCE)


def names(path: bytes, offset: int | None = None) -> list[bytes]:
    """The names in a layer's root, as the union lists them."""
    tree = open_tree(path, 1, offset=offset)
    with closing(tree):
        return [name for name, _ in tree.scan(tree.root(), xattr_whiteouts=False)]


def test_each_kind_is_known_by_what_it_is(image: Path, scratch: Path) -> None:
    xar, part = scratch / "app.xar", scratch / "app.AppImage"
    xar.write_bytes(make_header(uuid="8f583eae", version="1") + image.read_bytes())
    part.write_bytes(b"\x7fELF".ljust(INSIDE, b"\0") + image.read_bytes())
    found = {
        "directory": look(os.fsencode(scratch)),
        "bare": look(os.fsencode(image)),
        "xar": look(os.fsencode(xar)),
        "part": look(os.fsencode(part), INSIDE),
        "xar, whatever offset is asked for": look(os.fsencode(xar), INSIDE),
    }
    assert {name: (layer.kind, layer.offset) for name, layer in found.items()} == {
        "directory": (LayerKind.DIRECTORY, 0),
        "bare": (LayerKind.SQUASHFS, 0),
        "xar": (LayerKind.XAR, 4096),
        "part": (LayerKind.SQUASHFS, INSIDE),
        "xar, whatever offset is asked for": (LayerKind.XAR, 4096),
    }
    assert [layer.is_image for layer in found.values()] == [False, True, True, True, True]


def test_an_image_within_a_file_is_read_from_its_offset(image: Path, scratch: Path) -> None:
    part = scratch / "part"
    part.write_bytes(b"\x7fELF".ljust(INSIDE, b"\0") + image.read_bytes())
    assert names(os.fsencode(part), INSIDE) == [b"hello"]


def test_the_second_of_two_images_in_a_file_is_meant_by_its_offset(image: Path, scratch: Path) -> None:
    (scratch / "other").mkdir()
    (scratch / "other/second").touch()
    both = scratch / "both"
    both.write_bytes(image.read_bytes() + make_image(scratch / "next", scratch / "other").read_bytes())
    assert names(os.fsencode(both)) == [b"hello"]
    assert names(os.fsencode(both), image.stat().st_size) == [b"second"]


def test_a_block_device_is_an_image(device: bytes) -> None:
    """It was neither a directory nor an image, though mount(8) and squashfuse take it."""
    assert look(device) == Lower(device, LayerKind.SQUASHFS)
    with closing(Union.open(Stack((device,)), UnionOptions(), open_tree=open_tree)) as union:
        assert union.names(union.root().ino) == [b"hello"]


def test_what_is_no_layer_is_refused_and_not_waited_for(scratch: Path) -> None:
    os.mkfifo(scratch / "pipe")
    (scratch / "text").write_text("#!/bin/sh\n")
    (scratch / "empty").touch()
    (scratch / "bad").write_text('#!/usr/bin/env xarexec_fuse\nOFFSET="12"\n#xar_stop\n')
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(scratch / "socket"))
    said = {
        "pipe": (InvalidArgument, "not a regular file"),
        "socket": (InvalidArgument, "not a regular file"),
        "/dev/null": (InvalidArgument, "not a regular file"),
        "text": (InvalidArgument, "neither a squashfs image nor a XAR"),
        "empty": (InvalidArgument, "neither a squashfs image nor a XAR"),
        "bad": (Corrupt, "bad: line 2"),
        "absent": (FileNotFoundError, "absent"),
    }
    for name, (error, words) in said.items():
        with pytest.raises(error, match=words):
            look(os.fsencode(scratch / name))


def test_an_offset_without_an_image_is_said(image: Path) -> None:
    for offset in (1, 4096, image.stat().st_size, 1 << 62):
        with pytest.raises(InvalidArgument, match=f"no squashfs image at byte {offset}"):
            look(os.fsencode(image), offset)


def test_a_directory_is_opened_as_one(scratch: Path) -> None:
    place = os.fsencode(scratch)
    assert not is_image(place)
    assert not is_image(place + b"/absent")
    with closing(open_tree(place, 1)) as tree:
        assert isinstance(tree, DirTree)
