"""Images that others made read as what went into them, and as the kernel, squashfuse and unsquashfs read them."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from layerfs.pysquashfs import Compressor, SquashfsError, SquashfsImage
from tests.host import require
from tests.pysquashfs.images import (
    TOOL_TIMEOUT,
    Tree,
    make_image,
    mounted,
    seen_in_directory,
    seen_in_image,
    varied_tree,
)

PLAIN = ("-noI", "-noD", "-noF", "-noX")  # nothing is compressed
PACKED = {
    "gzip": ("mksquashfs", "-comp", "gzip"),
    "xz": ("mksquashfs", "-comp", "xz", "-Xbcj", "x86"),
    "lz4": ("mksquashfs", "-comp", "lz4", "-Xhc"),
    "zstd": ("mksquashfs", "-comp", "zstd", "-Xcompression-level", "3"),
    "lzma": ("mksquashfs", "-comp", "lzma"),
    "nothing compressed": ("mksquashfs", *PLAIN),
    "inodes plain": ("mksquashfs", "-noI", "-noId"),
    "no fragments": ("mksquashfs", "-no-fragments"),
    "tails in fragments": ("mksquashfs", "-always-use-fragments"),
    "small blocks": ("mksquashfs", "-b", "4K"),
    "large blocks": ("mksquashfs", "-b", "1M", "-comp", "zstd", "-Xcompression-level", "1"),
    "no export table": ("mksquashfs", "-no-exports", "-no-duplicates"),
    "holes stored": ("mksquashfs", "-no-sparse"),
    "ng gzip": ("gensquashfs", "-c", "gzip"),
    "ng xz": ("gensquashfs", "-c", "xz"),
    "ng lz4": ("gensquashfs", "-c", "lz4", "-e"),
    "ng zstd": ("gensquashfs", "-c", "zstd", "-T"),
    "ng lzma": ("gensquashfs", "-c", "lzma"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tree]:
    """A tree with everything, made once, and what is to be seen in it."""
    require("user xattrs", "mksquashfs")
    place = varied_tree(tmp_path_factory.mktemp("squashfs") / "tree")
    return place, seen_in_directory(place)


@pytest.fixture(scope="module")
def image(tree: tuple[Path, Tree], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image("mksquashfs", tree[0], tmp_path_factory.mktemp("image") / "tree.squashfs", "-comp", "lz4")


@pytest.mark.parametrize("how", PACKED)
def test_image_reads_as_the_tree_it_was_made_of(how: str, tree: tuple[Path, Tree], tmp_path: Path) -> None:
    tool, *options = PACKED[how]
    require(tool)
    with SquashfsImage(make_image(tool, tree[0], tmp_path / "image", *options)) as packed:
        if tool == "mksquashfs":
            assert seen_in_image(packed) == tree[1]
        else:
            assert as_gensquashfs_has_it(seen_in_image(packed)) == as_gensquashfs_has_it(tree[1])


def without_links(tree: Tree) -> Tree:
    return {path: seen._replace(nlink=0, twin=b"") for path, seen in tree.items()}


def as_gensquashfs_has_it(tree: Tree) -> Tree:
    """From a directory it takes no hard links, no time of the root, and no xattrs without a value."""
    kept = {path: seen._replace(xattrs=tuple(pair for pair in seen.xattrs if pair[1])) for path, seen in tree.items()}
    return without_links(kept | {b"": kept[b""]._replace(mtime=0)})


def as_squashfuse_shows_it(tree: Tree) -> Tree:
    """It gives inodes numbers of its own; 0.1.105 swaps trusted. and security., and has no values out of line."""
    return without_links({path: seen._replace(xattrs=()) for path, seen in tree.items()})


@pytest.mark.mounts
@pytest.mark.parametrize("reader", ["kernel", "squashfuse"])
def test_other_readers_see_the_same(reader: str, image: Path, tree: tuple[Path, Tree], scratch: Path) -> None:
    require("root", *(["squashfuse", "fuse"] if reader == "squashfuse" else []))
    with mounted(image, scratch / "mount", with_=reader) as place, SquashfsImage(image) as ours:
        theirs = seen_in_directory(place)
        if reader == "squashfuse":
            assert as_squashfuse_shows_it(seen_in_image(ours)) == as_squashfuse_shows_it(theirs)
            return
        assert seen_in_image(ours) == theirs
        numbers = {path: os.lstat(os.path.join(os.fsencode(place), path)).st_ino for path in theirs}
        assert {path: inode.number for path, inode in ours.walk()} == numbers


def test_unsquashfs_unpacks_the_same(image: Path, scratch: Path) -> None:
    require("root", "unsquashfs")
    command: list[str | Path] = ["unsquashfs", "-quiet", "-no-progress", "-d", scratch / "unpacked", image]
    subprocess.run(command, check=True, capture_output=True, timeout=TOOL_TIMEOUT)
    with SquashfsImage(image) as ours:
        assert seen_in_image(ours) == seen_in_directory(scratch / "unpacked")


def test_lzo_is_named_as_missing(tree: tuple[Path, Tree], tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    path = make_image("mksquashfs", tmp_path / "tree", tmp_path / "image", "-comp", "lzo")
    with pytest.raises(SquashfsError) as caught:
        SquashfsImage(path)
    assert caught.value.errno == 95
    assert str(caught.value) == f"{path}: the installed libsquashfs has no such compressor"
    assert caught.value.code == "SQFS_ERROR_UNSUPPORTED"


def test_superblock_says_what_mksquashfs_was_asked_for(tree: tuple[Path, Tree], tmp_path: Path) -> None:
    options = ("-comp", "zstd", "-b", "64K", "-mkfs-time", "1234567890", "-no-exports")
    with SquashfsImage(make_image("mksquashfs", tree[0], tmp_path / "image", *options)) as packed:
        block = packed.superblock
        assert (block.compressor, block.block_size, block.modification_time) == (Compressor.ZSTD, 65536, 1234567890)
        assert block.version == (4, 0)
        assert block.bytes_used <= (tmp_path / "image").stat().st_size
        assert block.inode_count == len({inode.number for _, inode in packed.walk()})


def test_directories_know_their_parents_and_links(image: Path) -> None:
    with SquashfsImage(image) as ours:
        found = dict(ours.walk())
        for path, inode in found.items():
            if path and stat.S_ISDIR(inode.mode):
                assert inode.parent == found[path.rpartition(b"/")[0]].number
                assert inode.nlink == 2 + sum(stat.S_ISDIR(kind) for _, _, kind, _ in ours.readdir(inode.ref))


def test_names_are_found_one_by_one(image: Path) -> None:
    """crowd has an index: its listing is longer than a metadata block."""
    with SquashfsImage(image) as ours:
        crowd = ours.lookup(b"crowd")
        assert crowd.size > 3 * 8192
        listed = ours.scan(crowd.ref)
        assert [(name, inode.ref) for name, inode in listed] == [entry[:2] for entry in ours.readdir(crowd.ref)]
        for name, inode in listed:
            assert ours.find(crowd.ref, name) == inode
            assert ours.find(crowd.ref, name + b"x") is None
        for absent in (b"", b"a", b"zzz", b"member", b"m" * 256, b"m" * 5000, b"member-number-99999"):
            assert ours.find(crowd.ref, absent) is None


@pytest.mark.parametrize(
    ("path", "errno"),
    [(b"nothing", 2), (b"a/nothing/x", 2), (b"files/prose-1/x", 20), (b"links/up/x", 20), (b"a/../files", 2)],
)
def test_absent_path_says_so(path: bytes, errno: int, image: Path) -> None:
    with SquashfsImage(image) as ours, pytest.raises(SquashfsError) as caught:
        ours.lookup(path)
    assert caught.value.errno == errno


def test_export_table_leads_to_every_inode(image: Path, tree: tuple[Path, Tree], tmp_path: Path) -> None:
    with SquashfsImage(image) as ours:
        for _, inode in ours.walk():
            assert ours.by_number(inode.number) == inode
        for number in (0, -1, ours.superblock.inode_count + 1, 2**40):
            with pytest.raises(SquashfsError):
                ours.by_number(number)
    with SquashfsImage(make_image("mksquashfs", tree[0] / "a", tmp_path / "image", "-no-exports")) as bare:
        with pytest.raises(SquashfsError) as caught:
            bare.by_number(1)
        assert caught.value.errno == 95


def test_walk_begins_where_it_is_told(image: Path) -> None:
    with SquashfsImage(image) as ours:
        assert [path for path, _ in ours.walk(b"a/b/c/d/e")] == [b"", b"f", b"f/g", b"f/g/leaf"]
        assert [path for path, _ in ours.walk(b"files/prose-1")] == [b""]


def test_any_range_of_a_file_is_read(image: Path, tree: tuple[Path, Tree]) -> None:
    block = 131072
    with SquashfsImage(image) as ours:
        for name in ("hole-between", f"prose-{3 * block + 777}", "prose-1", "all-hole", "prose-0"):
            content = (tree[0] / "files" / name).read_bytes()
            ref = ours.lookup(b"files/" + name.encode()).ref
            end = len(content)
            for offset in (0, 1, block - 1, block, 4 * block - 7, max(end - 1, 0), end, end + block):
                for size in (0, 1, 4096, block, 2 * block + 3, 10**9):
                    assert ours.read(ref, offset, size) == content[offset:][:size]


def test_pieces_cover_a_file_without_gaps(image: Path) -> None:
    with SquashfsImage(image) as ours:
        for name, inode in ours.scan(ours.lookup(b"files").ref):
            at = 0
            for piece in ours.pieces(inode.ref):
                assert piece.offset == at
                assert piece.length > 0
                assert (piece.position < 0) == (piece.stored == 0)
                data = ours.load(piece.position, piece.stored, ours.superblock.block_size)
                assert len(data) >= piece.start + piece.length
                at += piece.length
            assert at == inode.size, name


@pytest.mark.parametrize("asked", ["directory", "link", "fifo"])
def test_questions_to_the_wrong_kind_are_refused(asked: str, image: Path) -> None:
    path = {"directory": b"a", "link": b"links/up", "fifo": b"specials/fifo"}[asked]
    with SquashfsImage(image) as ours:
        ref = ours.lookup(path).ref
        refused = [ours.pieces] + ([ours.readlink] if asked != "link" else [])
        for question in refused:
            with pytest.raises(SquashfsError) as caught:
                question(ref)
            assert caught.value.errno == 22
        if asked != "directory":
            with pytest.raises(SquashfsError, match="not a directory"):
                ours.scan(ref)
