"""Which files hold a squashfs image, and where it begins."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.xar.header import MAGIC
from layerfs.xar.image_file import NotImage, image_offset, is_xar
from tests.xar.readers import lines_of, xar


def offset_of(path: Path) -> int:
    return image_offset(os.fsencode(path))


def test_the_image_s_offset_is_found_in_a_xar_and_in_a_bare_image(scratch: Path) -> None:
    for name, data in {
        "bare": MAGIC + bytes(92),
        "one": xar(lines_of()),
        "two": xar(lines_of(OFFSET="8192"), 8192),
    }.items():
        (scratch / name).write_bytes(data)
    assert [offset_of(scratch / name) for name in ("bare", "one", "two")] == [0, 4096, 8192]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_text("#!/bin/sh\nexit 0\n"), "is neither a squashfs image nor a XAR"),
        (lambda path: path.touch(), "is neither a squashfs image nor a XAR"),
        (lambda path: path.mkdir(), "is not a regular file"),
        (lambda path: os.mkfifo(path), "is not a regular file"),
    ],
    ids=["script", "empty", "directory", "FIFO"],
)
def test_a_file_that_is_no_image_is_refused_by_its_name(
    make: Callable[[Path], object], said: str, scratch: Path
) -> None:
    make(scratch / "thing")
    with pytest.raises(NotImage, match=f"thing {said}"):
        offset_of(scratch / "thing")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (xar(lines_of()), True),
        (xar(lines_of()[1:]), True),  # without a shebang: a XAR that is corrupt
        (xar(lines_of(tail=())), True),
        (MAGIC + b"\n#xar_stop\n", False),
        (b"#!/bin/sh\n", False),
        (b"", False),
    ],
)
def test_a_xar_is_known_by_its_first_bytes(data: bytes, expected: bool, scratch: Path) -> None:
    path = scratch / "file"
    path.write_bytes(data)
    with path.open("rb") as file:
        assert is_xar(file.fileno()) is expected
