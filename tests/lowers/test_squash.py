"""Images as lowers, without a mount: the same union as over directories, every byte, and no trust in what they say."""

import errno
import os
import stat
import subprocess
from contextlib import ExitStack, closing
from pathlib import Path
from unittest.mock import Mock

import pytest

from layerfs.lowers.kinds import open_tree
from layerfs.model import Stack
from layerfs.pysquashfs import FileSpec, SquashfsImage, write_image
from layerfs.union.attrs import Change
from layerfs.union.options import UnionOptions
from layerfs.union.union import Union
from tests.host import require
from tests.lowers.packing import Packed, lower_of, pack
from tests.oracle.trees import Kind, Layer, Node, build, directory, file, symlink
from tests.union.box import Box
from tests.waiting import PATIENCE

PLAIN = ("-noI", "-noD", "-noF", "-noX")


GONE = Node(Kind.WHITEOUT)


LAYERS: tuple[Layer, ...] = (
    {b"d": directory(), b"d/top": file(b"1"), b"gone": GONE, b"only": directory(opaque=True), b"only/new": file()},
    {b"d": directory(0o700), b"d/low": file(b"2" * 10_000), b"gone": file(b"3"), b"only/old": file()},
    {b"d": directory(), b"d/link": symlink(b"low"), b"d/low": file(b"hidden"), b"deep/er": directory()},
)


def test_a_union_of_images_is_the_union_of_their_directories(scratch: Path) -> None:
    require("mksquashfs")
    (scratch / "d").mkdir()
    (scratch / "i").mkdir()
    with Box(scratch / "d", *LAYERS) as expected, Packed(scratch / "i", *LAYERS) as actual:
        assert actual.tree() == expected.tree()
        for box in (expected, actual):
            box.rename(b"d/low", b"d/lower")
            box.create(b"deep/er/new", b"data")
            box.write(b"d/lower", b"changed")
            box.unlink(b"d/link")
        assert actual.tree() == expected.tree()


def test_files_that_were_open_as_they_were_copied_up_are_few_descriptors(scratch: Path) -> None:
    """A file of an image has none, so it was not counted; its copy's was not counted either."""
    require("mksquashfs")
    names = [b"%d" % number for number in range(9)]
    with Packed(scratch, {name: file(name) for name in names}) as box, ExitStack() as using:
        box.ov.files.limit = 2
        nodes = [using.enter_context(box.opened(name)) for name in names]
        for name in names:
            box.change(name, Change(mode=0o600))
        held = [node for node in nodes if isinstance(node.opened().data, int)]
        assert len(held) == 2
        assert box.tree() == {name: name for name in names}


@pytest.mark.mounts
def test_attributes_are_those_of_the_kernels_squashfs(tree: Path) -> None:
    require("root")
    (tree / "file").write_bytes(bytes(100) + b"x" * 9000)
    (tree / "sparse").touch()
    os.truncate(tree / "sparse", 1 << 20)
    (tree / "link").symlink_to("file")
    os.link(tree / "file", tree / "hard")
    os.mknod(tree / "device", 0o640 | stat.S_IFBLK, os.makedev(300, 70000))
    os.mkfifo(tree / "fifo")
    os.chown(tree / "fifo", 70000, 80000)
    (tree / "d/e").mkdir(parents=True)
    os.utime(tree / "d", (5, 7))
    image, mounted = pack(tree), tree.parent / "mounted"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "squashfs", "-o", "loop,ro", image, mounted], check=True, timeout=PATIENCE)
    fields = ("ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blocks", "mtime_ns", "ctime_ns")
    with closing(lower_of(image)) as lower:
        for name in map(os.fsencode, os.listdir(mounted)):
            wanted, found = os.lstat(os.path.join(os.fsencode(mounted), name)), lower.lstat(lower.root(), name)
            for field in fields:
                assert getattr(found, f"st_{field}") == getattr(wanted, f"st_{field}"), (name, field)


def test_large_directories_are_not_read_for_each_name_in_turn(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two whose listings are not kept together, each lookup read one again: 30 ms at 15,000 names."""
    names = [b"%04d" % number for number in range(2000)]
    for above in (b"a", b"b"):
        (tree / os.fsdecode(above)).mkdir()
        for name in names:
            (tree / os.fsdecode(above) / os.fsdecode(name)).touch()
    monkeypatch.setattr("layerfs.lowers.squash.LISTED", 3000)
    with closing(lower_of(pack(tree))) as lower:
        handles = [lower.open_dir(lower.root(), above) for above in (b"a", b"b")]
        expected = [{name: lower.lstat(handle, name).st_ino for name, _ in lower.scan(handle, xattr_whiteouts=False)}
                    for handle in handles]  # fmt: skip
        scan = Mock(wraps=lower.image.scan)
        monkeypatch.setattr(lower.image, "scan", scan)
        for name in names[::2]:
            for handle, numbers in zip(handles, expected, strict=True):
                assert lower.lstat(handle, name).st_ino == numbers[name]
        with pytest.raises(FileNotFoundError):
            lower.lstat(handles[0], b"absent")
        assert scan.call_count < 50


def test_directories_in_a_circle_are_refused(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tree / "above/circular").mkdir(parents=True)
    image = pack(tree, *PLAIN)
    with SquashfsImage(image) as intact:
        above = intact.lookup(b"above").ref
    data = bytearray(Path(os.fsdecode(image)).read_bytes())
    at = data.index(b"circular") - 8  # squashfs_dir_entry: where its inode is in the metadata block, then its kin
    data[at : at + 2] = (above & 0xFFFF).to_bytes(2, "little")
    Path(os.fsdecode(image)).write_bytes(data)
    with closing(Union.open(Stack((image,)), UnionOptions(), open_tree=open_tree)) as union:
        outer, _ = union.lookup(1, b"above")
        with pytest.raises(OSError) as failure:
            inner, _ = union.lookup(outer.ino, b"circular")
            union.names(inner.ino)
        assert failure.value.errno == errno.EIO
    assert "in two directories" in caplog.text


def test_directories_that_share_one_listing_are_refused(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An image of 12 KB had a million names, which the server read one by one and remembered."""
    for name in ("crowd", *(f"brothers/b{number}" for number in range(6))):
        (tree / name).mkdir(parents=True)
    for number in range(60):
        (tree / f"crowd/{'long' * 20}{number}").touch()
    image = Path(os.fsdecode(pack(tree, *PLAIN)))
    with SquashfsImage(image) as intact:
        data, table = bytearray(image.read_bytes()), intact.superblock.inode_table + 2
        crowd = table + (intact.lookup(b"crowd").ref & 0xFFFF) + 16  # start, links, size, offset
        for number in range(6):
            at = table + (intact.lookup(b"brothers/b%d" % number).ref & 0xFFFF) + 16
            data[at : at + 12] = data[crowd : crowd + 12]
    image.write_bytes(data)
    with closing(lower_of(os.fsencode(image))) as lower:
        handle = lower.open_dir(lower.root(), b"crowd")
        assert len(lower.scan(handle, xattr_whiteouts=False)) == 60
        brothers = lower.open_dir(lower.root(), b"brothers")
        with pytest.raises(OSError, match="Input/output"):
            lower.scan(lower.open_dir(brothers, b"b0"), xattr_whiteouts=False)
        lower.close_dir(lower.open_dir(lower.root(), b"crowd"))
    assert "directories overlap" in caplog.text


@pytest.mark.parametrize(("names", "size"), [(20_000, 0), (40, 60_000)])
def test_more_xattrs_than_linux_lists_are_an_error_of_that_file(
    tree: Path, caplog: pytest.LogCaptureFixture, names: int, size: int
) -> None:
    """Each question after one of 790,000 stopped everybody for a second."""
    xattrs = {b"user.%d" % number: bytes(size) for number in range(names)}
    image = tree.with_suffix(".sqfs")
    entries = [FileSpec(b"f", stat.S_IFREG, xattrs=xattrs), FileSpec(b"g", stat.S_IFREG, xattrs={b"user.a": b"1"})]
    write_image(image, entries)
    with closing(lower_of(os.fsencode(image))) as lower:
        with pytest.raises(OSError, match="Input/output"):
            lower.listxattr(lower.reach(lower.root(), b"f"))
        assert lower.listxattr(lower.reach(lower.root(), b"g")) == ["user.a"]
    assert "xattr" in caplog.text


def test_listings_beyond_the_bound_are_read_again(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerfs.lowers.squash.LISTED", 10)
    for number in range(8):
        (tree / f"d{number}").mkdir()
        (tree / f"d{number}/f").write_bytes(b"%d" % number)
    with closing(lower_of(pack(tree))) as lower:
        for _ in range(2):
            for number in range(8):
                handle = lower.open_dir(lower.root(), b"d%d" % number)
                assert lower.lstat(handle, b"f").st_size == 1
                lower.close_dir(handle)


def test_xattrs_are_read_and_those_of_root_only_by_root(tree: Path) -> None:
    (tree / "f").touch()
    os.setxattr(tree / "f", "user.word", b"value")
    with closing(lower_of(pack(tree))) as lower:
        ref = lower.reach(lower.root(), b"f")
        assert lower.listxattr(ref) == ["user.word"]
        assert lower.getxattr(ref, "user.word") == b"value"
        with pytest.raises(OSError) as failure:
            lower.getxattr(ref, "user.none")
        assert failure.value.errno == errno.ENODATA


def test_a_large_directory_that_was_built_is_the_one_that_is_seen(tree: Path) -> None:
    names = {b"%05d" % number for number in range(20_000)}
    build(os.fsencode(tree / "l"), {b"many": directory()} | {b"many/" + name: file() for name in names})
    with closing(Union.open(Stack((pack(tree),)), UnionOptions(), open_tree=open_tree)) as union:
        layer, _ = union.lookup(1, b"l")
        many, _ = union.lookup(layer.ino, b"many")
        assert set(union.names(many.ino)) == names
        assert union.lookup(many.ino, b"19999")[1].st_size == 0
