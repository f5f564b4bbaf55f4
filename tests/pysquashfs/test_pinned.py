"""Files are reached by steps that nobody can exchange, however deep they lie."""

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from layerfs.pysquashfs import SquashfsImage, entries_of, write_image
from layerfs.pysquashfs.pinned import PinnedTree
from layerfs.sys import dirs

DEPTH = 600  # with names of 8 bytes more than PATH_MAX


def read(pinned: PinnedTree, path: bytes) -> bytes:
    with os.fdopen(pinned.open_file(path), "rb") as file:
        return file.read()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def tree(scratch: Path) -> Path:
    """Two directories with a file each, and a secret outside under the same names."""
    for top in ("tree", "secret"):
        for name in "ab":
            (scratch / top / name / "inner").mkdir(parents=True)
            (scratch / top / name / "inner" / "file").write_text(top + name)
    return scratch / "tree"


def test_a_directory_that_becomes_a_symlink_is_not_gone_through(tree: Path) -> None:
    pinned = PinnedTree(os.fsencode(tree))
    assert read(pinned, b"a/inner/file") == b"treea"
    for name in ("a", "b/inner"):
        (tree / name).rename(tree / f"old-{name[0]}")
        (tree / name).symlink_to(tree.parent / "secret" / name)
    for path in (b"b/inner/file", b"b/inner"):
        with pytest.raises(OSError) as caught:
            pinned.names(path)
        assert caught.value.errno == errno.ENOTDIR
        assert caught.value.filename == os.fsencode(tree / os.fsdecode(path))
    with pytest.raises(NotADirectoryError):
        pinned.open_file(b"b/inner/file")
    with pytest.raises(
        NotADirectoryError
    ):  # its inner directory was open, and stays what it was; a new way is not found
        pinned.open_file(b"a/file")


def test_the_way_up_is_the_way_that_was_come(tree: Path) -> None:
    """A directory that was moved out of the tree leads nowhere else."""
    (tree / "a" / "next").write_text("in the tree")
    (tree.parent / "secret" / "next").write_text("secret")
    pinned = PinnedTree(os.fsencode(tree))
    assert read(pinned, b"a/inner/file") == b"treea"
    (tree / "a" / "inner").rename(tree.parent / "secret" / "inner")
    assert read(pinned, b"a/next") == b"in the tree"


def test_the_top_stays_the_one_that_was_opened(tree: Path) -> None:
    pinned = PinnedTree(os.fsencode(tree))
    tree.rename(tree.parent / "old")
    tree.symlink_to("secret")
    assert read(pinned, b"b/inner/file") == b"treeb"
    assert read(PinnedTree(os.fsencode(tree)), b"b/inner/file") == b"secretb"
    with pytest.raises(NotADirectoryError):
        PinnedTree(os.fsencode(tree), follow=False)


def test_what_is_no_file_is_never_opened(tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    (tree / "link").symlink_to("/etc/passwd")
    pinned = PinnedTree(os.fsencode(tree))
    fd = pinned.open_file(b"fifo")
    assert dirs.is_path_only(fd)
    os.close(fd)
    with pytest.raises(OSError) as caught:
        pinned.open_file(b"link")
    assert caught.value.errno == errno.ELOOP


def test_what_is_open_does_not_outlive_its_users(tree: Path) -> None:
    before = open_files()
    entries = list(entries_of(tree))
    assert open_files() <= before + 2
    del entries
    with suppress(FileNotFoundError):
        PinnedTree(b"/absent")
    assert open_files() == before


def test_a_tree_deeper_than_any_path_is_packed(scratch: Path) -> None:
    """It was refused, ENAMETOOLONG; two descriptors do, and the way is not walked again for each file."""
    (scratch / "tree").mkdir()
    fd = os.open(scratch / "tree", os.O_RDONLY)
    for _ in range(DEPTH):
        os.close(os.open(b"file", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd))
        os.mkdir(b"fathomed", dir_fd=fd)
        below = os.open(b"fathomed", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    last = os.open(b"last", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd)
    os.write(last, b"deep")
    os.close(last)
    os.close(fd)
    try:
        told: list[tuple[bytes, str]] = []
        entries = list(entries_of(scratch / "tree", on_changed=lambda *what: told.append(what)))
        write_image(scratch / "image", entries, on_changed=lambda *what: told.append(what))
    finally:
        at = os.open(scratch, os.O_RDONLY)
        dirs.remove(at, b"tree")
        os.close(at)
    assert told == []
    assert len(entries) == 2 * DEPTH + 2
    with SquashfsImage(scratch / "image") as image:
        ref = image.root.ref
        for _ in range(DEPTH):
            ref = next(inode.ref for entry, inode in image.scan(ref) if entry == b"fathomed")
        ((entry, inode),) = image.scan(ref)
        assert (entry, image.read(inode.ref, 0, 9)) == (b"last", b"deep")
