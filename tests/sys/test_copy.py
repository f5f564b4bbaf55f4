"""File data from one descriptor to another."""

import errno
import os
from pathlib import Path

import pytest

from layerfs.sys import copy

LAYOUTS = {
    "empty": (0, []),
    "data": (100_000, [(0, 100_000)]),
    "hole in front": (3_000_000, [(2_000_000, 1_000_000)]),
    "hole behind": (3_000_000, [(0, 10)]),
    "only hole": (3_000_000, []),
    "islands": (9_000_000, [(0, 4096), (1 << 20, 5), (8_000_000, 300_000)]),
}


def make(path: Path, layout: str) -> bytes:
    size, islands = LAYOUTS[layout]
    with open(path, "xb") as out:
        out.truncate(size)
        for start, length in islands:
            out.seek(start)
            out.write(os.urandom(length))
    return path.read_bytes()


def copied(source: Path, target: Path, size: int) -> bytes:
    with open(source, "rb") as here, open(target, "x+b") as there:
        copy.copy_data(here.fileno(), there.fileno(), size)
    return target.read_bytes()


@pytest.mark.parametrize("refused", [None, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_copy_is_equal_and_as_sparse(
    scratch: Path, layout: str, refused: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if refused is not None:
        monkeypatch.setattr(os, "copy_file_range", _refuse(refused))
    content = make(scratch / "a", layout)
    assert copied(scratch / "a", scratch / "b", len(content)) == content
    assert (scratch / "b").stat().st_blocks <= (scratch / "a").stat().st_blocks + 16


def _refuse(code: int) -> object:
    def call(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize("size", [1, 4096, 1_500_000, 8_000_100])
def test_copy_of_the_front_only(scratch: Path, size: int) -> None:
    content = make(scratch / "a", "islands")
    assert copied(scratch / "a", scratch / "b", size) == content[:size]


def test_errors_of_the_target_reach_the_caller(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "copy_file_range", _refuse(errno.ENOSPC))
    content = make(scratch / "a", "data")
    with pytest.raises(OSError) as caught:
        copied(scratch / "a", scratch / "b", len(content))
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("offset", [100, 60])
def test_write_that_fails_half_way_leaves_the_file_as_long_as_it_was(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    (scratch / "f").write_bytes(b"a" * 100)
    really, written = os.pwrite, list[int]()

    def full(fd: int, data: memoryview, at: int) -> int:
        if written:
            raise OSError(errno.ENOSPC, "full")
        written.append(really(fd, data[:70], at))
        return written[0]

    with open(scratch / "f", "r+b") as file:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.raises(OSError, match="full"):
                copy.write_or_undo(file.fileno(), b"b" * 90, offset)
        assert written == [70]
        assert os.fstat(file.fileno()).st_size == 100
        assert copy.write_or_undo(file.fileno(), b"b" * 90, 100) == 90
    assert (scratch / "f").read_bytes() == b"a" * offset + b"b" * (100 - offset) + b"b" * 90
