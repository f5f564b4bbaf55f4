"""Digests of contents, and contents compared byte by byte."""

import hashlib
from pathlib import Path

import pytest
import xxhash

from layerfs.xar.digest import PIECE, both, quick, same_content, trusted

CONTENTS = {"empty": b"", "short": b"a", "a piece": b"p" * PIECE, "more than a piece": b"m" * (PIECE + 1)}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_digests_are_those_of_the_libraries_wherever_the_file_was_read_to(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with open(tmp_path / "file", "rb") as file:
        file.read(1)
        assert quick(file.fileno()) == xxhash.xxh3_128_hexdigest(content)
        assert trusted(file.fileno()) == hashlib.sha256(content).hexdigest()
        assert both(file.fileno()) == (quick(file.fileno()), trusted(file.fileno()), len(content))


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (b"", b"", True),
        (b"a" * PIECE, b"a" * PIECE, True),
        (b"ab", b"a", False),
        (b"x" * PIECE + b"a", b"x" * PIECE + b"b", False),
    ],
)
def test_contents_are_compared_to_their_ends(tmp_path: Path, one: bytes, other: bytes, equal: bool) -> None:
    (tmp_path / "one").write_bytes(one)
    (tmp_path / "other").write_bytes(other)
    with open(tmp_path / "one", "rb") as first, open(tmp_path / "other", "rb") as second:
        assert same_content(first.fileno(), second.fileno()) is equal
