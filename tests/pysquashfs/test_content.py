"""The content of files on its way into an image, also of files that change meanwhile."""

import os
from pathlib import Path

import pytest

from layerfs.pysquashfs import (
    FileSpec,
    SquashfsImage,
    entries_of,
    write_image,
)
from tests.pysquashfs.write_facts import DIRECTORY, FILE

TREE = [FileSpec(b"d", DIRECTORY), FileSpec(b"f", FILE, data=b"1")]


def test_progress_counts_the_bytes_of_content(scratch: Path) -> None:
    (scratch / "file").write_bytes(bytes(20_000_000))
    seen: list[int] = []
    entries = [*TREE, FileSpec(b"x", FILE, source=scratch / "file"), FileSpec(b"y", FILE, data=[b"ab", b"c"])]
    write_image(scratch / "image", entries, on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1 + 20_000_000 + 3
    assert len(seen) > 4


@pytest.mark.parametrize("after", [31_000_000, 29_000_000, 1_500_000, 0], ids=["longer", "shorter", "short", "empty"])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_file_that_changes_while_it_is_read_is_packed_and_told(scratch: Path, after: int, sparse: bool) -> None:
    """mksquashfs packs it; it was refused."""
    path, size = scratch / "file", 30_000_000
    path.write_bytes(b"0123456789" * 100_000 if sparse else b"0123456789" * (size // 10))
    os.truncate(path, size)
    before = path.read_bytes()
    told: list[tuple[bytes, str]] = []
    write_image(
        scratch / "image",
        [FileSpec(b"x", FILE, source=str(path)), FileSpec(b"y", FILE, data=b"y")],
        on_progress=lambda done: os.truncate(path, after),
        on_changed=lambda *what: told.append(what),
    )
    assert told == [(b"x", "changed while it was read")]
    with SquashfsImage(scratch / "image") as image:
        inode = image.lookup(b"x")
        assert inode.size <= size
        assert image.read(inode.ref, 0, size) == before[: inode.size]
        assert image.read(image.lookup(b"y").ref, 0, 10) == b"y"


def test_a_file_that_is_another_one_when_its_turn_comes_is_packed_as_what_it_is(scratch: Path) -> None:
    tree = scratch / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"1")
    (tree / "other").write_bytes(b"other")
    entries = list(entries_of(tree))

    def packed() -> tuple[bytes, list[tuple[bytes, str]]]:
        told: list[tuple[bytes, str]] = []
        write_image(scratch / "image", entries, on_changed=lambda *what: told.append(what))
        with SquashfsImage(scratch / "image") as image:
            return image.read(image.lookup(b"file").ref, 0, 100), told

    (tree / "file").write_bytes(b"22")
    assert packed() == (b"22", [(b"file", "changed while it was read")])
    (tree / "file").unlink()
    assert packed() == (b"", [(b"file", "was gone when it was to be read: it is empty")])
    (tree / "file").symlink_to("/etc/passwd")
    assert packed() == (b"", [(b"file", "was gone when it was to be read: it is empty")])
    (tree / "file").unlink()
    os.mkfifo(tree / "file")
    assert packed() == (b"", [(b"file", "was no file any more when it was to be read: it is empty")])
