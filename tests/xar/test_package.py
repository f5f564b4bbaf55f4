"""Packages opened: what they are called, where their image begins, and what is said of a damaged one."""

import os
from pathlib import Path

import pytest

from layerfs.errors import Corrupt
from layerfs.pysquashfs import SquashfsError, write_image
from layerfs.xar.header_writer import make_header
from layerfs.xar.image_file import NotImage
from layerfs.xar.package import opened, reason
from tests.xar.forgery import directory, file
from tests.xar.readers import lines_of, xar

ENTRIES = [directory(b""), file(b"run")]


def test_a_bare_image_and_a_xar_are_opened_alike(scratch: Path) -> None:
    write_image(scratch / "bare", ENTRIES)
    image = (scratch / "bare").read_bytes()
    depends = [f"{number:0100}" for number in range(50)]
    (scratch / "one.xar").write_bytes(make_header(uuid="8f583eae", version="1") + image)
    (scratch / "two.xar").write_bytes(make_header(uuid="8f583eae", version="1", dependencies=depends) + image)
    for name, offset in {"bare": 0, "one.xar": 4096, "two.xar": 8192}.items():
        with opened(os.fsencode(scratch / name)) as package:
            assert (package.name, package.offset, package.size) == (name.encode(), offset, offset + len(image))
            assert package.image.read(package.image.lookup(b"run").ref, 0, 9) == b"data\n"
            assert (package.header is None) == (offset == 0)


def test_what_is_no_package_is_refused_and_no_descriptor_stays(scratch: Path) -> None:
    (scratch / "text").write_text("x")
    (scratch / "bad.xar").write_bytes(xar(lines_of(UUID="me")))
    for name, error in {"text": NotImage, "bad.xar": Corrupt, "absent": FileNotFoundError, "": NotImage}.items():
        with pytest.raises(error), opened(os.fsencode(scratch / name)):
            pass


def test_damage_is_said_of_the_file_s_name_and_its_reason_without(scratch: Path) -> None:
    path = scratch / "app.xar"
    path.write_bytes(xar(lines_of()))
    with pytest.raises(SquashfsError) as caught, opened(os.fsencode(path)):
        pass
    assert str(caught.value).startswith(f"{path}: ")
    assert str(path) not in reason(caught.value)
    write_image(scratch / "bare", ENTRIES)
    with opened(os.fsencode(scratch / "bare")) as package, pytest.raises(SquashfsError) as caught:
        package.image.inode(1 << 40)
    assert str(caught.value) == f"{scratch}/bare: {reason(caught.value)}"
