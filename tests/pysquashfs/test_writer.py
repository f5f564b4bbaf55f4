"""What we write, everybody reads back equal: the kernel, squashfuse, unsquashfs and our own reader."""

import os
import random
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.pysquashfs import Compressor, FileSpec, SquashfsImage, WriteOptions, entries_of, write_image, write_tree
from tests.host import require
from tests.pysquashfs.images import mounted as mounted_image
from tests.pysquashfs.write_facts import (
    DIRECTORY,
    FILE,
    LINK,
    READERS,
    by_kernel,
    by_us,
    facts_of,
    facts_wanted,
    mounted,
)
from tests.waiting import PATIENCE


@pytest.fixture(autouse=True)
def _root() -> None:
    require("root")  # who else may mount images


def noise(size: int) -> bytes:
    """Bytes that no compressor makes shorter, always the same ones."""
    return random.Random(size).randbytes(size)


def bestiary(block: int = 131072) -> list[FileSpec]:
    """One of each, and files of the sizes at which something changes."""
    sizes = (0, 1, 100, block - 1, block, block + 1, 2 * block + 17)
    return [
        FileSpec(b"", DIRECTORY | stat.S_ISVTX, 1, 2, 86400),
        *(FileSpec(b"noise-%d" % size, FILE, data=noise(size)) for size in sizes),
        *(FileSpec(b"text-%d" % size, FILE, data=(b"all work and no play " * size)[:size]) for size in sizes),
        *(FileSpec(b"zeros-%d" % size, FILE, data=bytes(size)) for size in sizes),
        FileSpec(b"holes", FILE, data=b"a" + bytes(5 * block) + b"b" + bytes(2 * block) + b"c" * block + bytes(block)),
        FileSpec(b"setuid", FILE | stat.S_ISUID | stat.S_ISGID, 0xFFFFFFFE, 65534, 0xFFFFFFFF, b"#!"),
        FileSpec(b"empty", DIRECTORY | 0o2070, mtime=1),
        FileSpec(b"a", DIRECTORY),
        FileSpec(b"a/b", DIRECTORY, xattrs={b"user.on": b"directory"}),
        FileSpec(b"a/b/c", DIRECTORY),
        FileSpec(b"a/b/c/\xff name \xc3\xa4\n", FILE, data=b"x"),
        FileSpec(b"a/" + b"n" * 255, FILE, data=b"long"),
        *(FileSpec(b"a/%03d" % n, FILE, 1000 + n % 9, n % 7, n, b"%d" % n) for n in range(600)),
        FileSpec(b"link", LINK, target=b"a/b/\xff"),
        FileSpec(b"link-long", LINK, target=b"/t" * 2000, xattrs={b"trusted.on": b"link"}),
        FileSpec(b"fifo", stat.S_IFIFO | 0o600),
        FileSpec(b"socket", stat.S_IFSOCK | 0o755, xattrs={b"security.on": b"socket"}),
        FileSpec(b"char", stat.S_IFCHR | 0o620, rdev=os.makedev(4095, 0xFFFFF)),
        FileSpec(b"whiteout", stat.S_IFCHR, rdev=0),
        FileSpec(b"block", stat.S_IFBLK | 0o660, rdev=os.makedev(8, 17), xattrs={b"trusted.on": b"block"}),
        FileSpec(b"a/hard", link=b"text-%d" % (block + 1)),
        FileSpec(b"0hard", link=b"text-%d" % (block + 1)),
        FileSpec(b"a/fifo", link=b"fifo"),
        FileSpec(b"a/link", link=b"link-long"),
        FileSpec(b"x1", FILE, xattrs={b"user.a": b"a", b"user.b": noise(300), b"trusted.d": b"1", b"security.e": b"2"}),
        FileSpec(b"x2", FILE, xattrs={b"user.b": noise(300), b"user.c": noise(3000)}),  # shares a value
        FileSpec(b"x3", FILE, data=b"3", xattrs={b"user.b": noise(300), b"user.c": noise(3000)}),  # shares all
    ]


@pytest.mark.mounts
@pytest.mark.parametrize("reader", READERS)
def test_everything_reads_back_equal(reader: str, scratch: Path) -> None:
    if reader not in ("kernel", "pysquashfs"):
        require(reader)
    image = scratch / "image"
    write_image(image, bestiary(), WriteOptions(threads=2))
    assert READERS[reader](image) == facts_wanted(bestiary())


COMPRESSORS = (Compressor.GZIP, Compressor.XZ, Compressor.LZ4, Compressor.ZSTD)


@pytest.mark.mounts
@pytest.mark.parametrize("block", [4096, 262144, 1048576])
@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_every_compressor_and_block_size_is_read(compressor: Compressor, block: int, scratch: Path) -> None:
    image, entries = scratch / "image", bestiary(block)
    write_image(image, entries, WriteOptions(compressor, block_size=block, compress_inodes=block != 262144))
    wanted = facts_wanted(entries)
    assert by_kernel(image) == wanted
    assert by_us(image) == wanted


@pytest.mark.mounts
@pytest.mark.parametrize(
    "options",
    [
        WriteOptions(compress_inodes=False, compress_xattrs=False),
        WriteOptions(compress_data=False),
        WriteOptions(fragments=False),
        WriteOptions(deduplicate=False, export=False),
        WriteOptions(Compressor.LZ4, level=9),
        WriteOptions(Compressor.XZ, level=9),
        WriteOptions(Compressor.GZIP, level=1),
    ],
    ids=["metadata as it is", "data as it is", "no fragments", "no extras", "lz4 high", "xz 9", "gzip 1"],
)
def test_kernel_and_image_read_every_option(options: WriteOptions, scratch: Path) -> None:
    image = scratch / "image"
    write_image(image, bestiary(), options)
    assert by_kernel(image) == by_us(image) == facts_wanted(bestiary())


def test_lzma_is_read_by_image(scratch: Path) -> None:
    """No kernel reads it."""
    image = scratch / "image"
    write_image(image, bestiary(4096), WriteOptions(Compressor.LZMA, block_size=4096))
    assert by_us(image) == facts_wanted(bestiary(4096))


@pytest.mark.mounts
def test_image_of_nothing_is_an_empty_directory(scratch: Path) -> None:
    image = scratch / "image"
    assert write_image(image, []) == image.stat().st_size == 4096
    assert by_kernel(image) == by_us(image) == facts_wanted([FileSpec(b"", DIRECTORY)])


@pytest.mark.mounts
def test_image_begins_at_an_offset_of_a_descriptor(scratch: Path) -> None:
    file = scratch / "package.xar"
    file.write_bytes(b"#" * 4096 + b"what was there before" * 10000)
    with open(file, "r+b") as opened:
        opened.seek(17)
        length = write_image(opened.fileno(), bestiary(), offset=4096)
        assert opened.tell() == 17
    assert file.stat().st_size == 4096 + length
    assert length % 4096 == 0
    assert file.read_bytes()[:4096] == b"#" * 4096
    assert by_us(file, offset=4096) == facts_wanted(bestiary())
    with mounted(file, offset=4096) as place:
        assert facts_of(place) == facts_wanted(bestiary())


def make_tree(top: Path) -> None:
    """A directory with one of each, as a program would make it."""
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "file").write_bytes(noise(300000))
    (top / "a" / "b" / "text").write_text("text\n" * 1000)
    (top / "z").write_bytes(b"")
    os.link(top / "a" / "file", top / "0first")
    os.symlink("a/b", top / "symlink")
    os.mkfifo(top / "fifo")
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.setxattr(top / "a", "user.directory", b"")
    os.setxattr(top / "a" / "file", "trusted.file", b"2")
    os.setxattr(top / "symlink", "security.symlink", b"3", follow_symlinks=False)
    for name in ("user.same", "trusted.same", "security.same"):
        os.setxattr(top / "z", name, name.encode())
    os.chown(top / "z", 1234, 4321)
    os.utime(top / "z", (1, 1_000_000_000.75))
    with open(top / "sparse", "wb") as file:
        file.seek(1_000_000)
        file.write(b"data")
        file.truncate(3_000_000)


@pytest.mark.mounts
def test_directory_becomes_an_equal_image(scratch: Path) -> None:
    top, image = scratch / "tree", scratch / "image"
    make_tree(top)
    write_tree(top, image)
    assert by_kernel(image) == by_us(image) == facts_of(top)


def test_directory_is_named_by_a_descriptor_or_a_link(scratch: Path) -> None:
    top = scratch / "tree"
    make_tree(top)
    (scratch / "link").symlink_to(top)
    fd = os.open(top, os.O_RDONLY)
    write_tree(fd, scratch / "one")
    os.close(fd)
    write_tree(scratch / "link", scratch / "other")
    assert by_us(scratch / "one") == by_us(scratch / "other") == facts_of(top)


def test_content_comes_from_everywhere(scratch: Path) -> None:
    whole = noise(700_000)
    (scratch / "file").write_bytes(whole)
    (scratch / "link").symlink_to("file")
    file = os.open(scratch / "file", os.O_RDONLY)
    os.lseek(file, 5, os.SEEK_SET)
    behind, before = os.pipe()
    os.write(before, b"through a pipe")
    os.close(before)
    entries = [
        FileSpec(b"bytes", FILE, data=whole),
        FileSpec(b"pieces", FILE, data=(whole[at : at + 777] for at in range(0, len(whole), 777))),
        FileSpec(b"views", FILE, data=[memoryview(whole), bytearray(b"end")]),  # type: ignore[list-item]
        FileSpec(b"path", FILE, source=scratch / "file"),
        FileSpec(b"link", FILE, source=os.fsencode(scratch / "link")),
        FileSpec(b"descriptor", FILE, source=file),
        FileSpec(b"pipe", FILE, source=behind),
    ]
    write_image(scratch / "image", entries)
    assert os.lseek(file, 0, os.SEEK_CUR) == 5
    os.close(file)
    os.close(behind)
    with SquashfsImage(scratch / "image") as image:
        read = {name: image.read(inode.ref, 0, inode.size) for name, inode in image.scan(image.root.ref)}
    wanted = {entry.path: whole for entry in entries}
    assert read == wanted | {b"views": whole + b"end", b"pipe": b"through a pipe"}


@pytest.mark.mounts
def test_hole_of_two_gigabytes_is_not_read(scratch: Path) -> None:
    path, image = scratch / "sparse", scratch / "image"
    with open(path, "wb") as opened:
        for position in (0, 2**31 + 12345, 2**32 + 99999):
            opened.seek(position)
            opened.write(noise(200_000))
        opened.truncate(2**32 + 2**30)
    before = bytes_read()
    write_image(image, [FileSpec(b"sparse", FILE, source=path)])
    assert bytes_read() - before < 10_000_000
    with SquashfsImage(image) as ours, mounted(image) as place, open(place / "sparse", "rb") as kernels:
        ((_, inode),) = ours.scan(ours.root.ref)
        assert os.fstat(kernels.fileno()).st_size == inode.size == 2**32 + 2**30
        assert os.fstat(kernels.fileno()).st_blocks * 512 < 2_000_000
        for position in (0, 2**31 - 100, 2**31 + 12345, 2**32 + 99990, 2**32 + 2**30 - 5):
            with open(path, "rb") as source:
                wanted = os.pread(source.fileno(), 100_000, position)
            assert os.pread(kernels.fileno(), 100_000, position) == wanted
            assert ours.read(inode.ref, position, 100_000) == wanted


def bytes_read() -> int:
    """How much this process has read so far (proc(5): rchar)."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.mounts
def test_file_of_more_than_two_gigabytes(scratch: Path) -> None:
    image, size = scratch / "image", 2**31 + 3 * 2**20 + 5

    def content() -> Iterator[bytes]:
        for number in range(size // 2**20):
            yield (noise(1000) + b"%d" % number).ljust(2**20, b"\0") if number % 256 == 0 else bytes(2**20)
        yield b"tail."

    assert write_image(image, [FileSpec(b"big", FILE, data=content())]) < 1_000_000
    with SquashfsImage(image) as ours, mounted(image) as place, open(place / "big", "rb") as kernels:
        ((_, inode),) = ours.scan(ours.root.ref)
        assert os.fstat(kernels.fileno()).st_size == inode.size == size
        last = size - 5
        for position, wanted in ((0, noise(1000) + b"0"), (2**31, noise(1000) + b"2048"), (last, b"tail.")):
            assert os.pread(kernels.fileno(), len(wanted), position) == wanted
            assert ours.read(inode.ref, position, len(wanted)) == wanted


@pytest.mark.mounts
def test_hundred_thousand_names_in_a_directory(scratch: Path) -> None:
    """Names are looked up through the directory's index: by the kernel, and by `SquashfsImage.find`."""
    image, count = scratch / "image", 100_000
    write_image(image, (FileSpec(b"%06d" % (number * 7 % count), FILE, mtime=number) for number in range(count)))
    with SquashfsImage(image) as ours, mounted(image) as place:
        assert [name for name, _ in ours.scan(ours.root.ref)] == [b"%06d" % number for number in range(count)]
        assert len(os.listdir(place)) == count
        for number in range(0, count, 997):
            name = b"%06d" % (number * 7 % count)
            found = ours.find(ours.root.ref, name)
            assert found is not None
            assert os.lstat(os.path.join(os.fsencode(place), name)).st_mtime == found.mtime == number
        assert ours.find(ours.root.ref, b"nothing") is None


def test_deep_directories(scratch: Path) -> None:
    paths = [b"/".join([b"d"] * depth) for depth in range(1, 1500)]
    write_image(scratch / "image", [FileSpec(path, DIRECTORY) for path in paths])
    with SquashfsImage(scratch / "image") as image:
        assert image.lookup(paths[-1]).nlink == 2
        assert image.superblock.inode_count == 1500


def test_listing_of_every_length_around_64_KiB(scratch: Path) -> None:
    """A plain directory's inode has 16 bits for the length of its listing, and counts 3 for "." and ".."."""
    names = [b"%04d" % number + b"x" * 80 for number in range(710)]
    sizes = set()
    for extra in range(20, 29):
        entries = [FileSpec(name, FILE) for name in [*names, b"z" * extra]]
        write_image(scratch / "image", entries)
        with SquashfsImage(scratch / "image") as image:
            assert [name for name, _ in image.scan(image.root.ref)] == [entry.path for entry in entries]
            sizes.add(image.root.size)
    assert {65532, 65533, 65534, 65535, 65536, 65537, 65538, 65539} <= sizes


def test_export_table_finds_every_inode(scratch: Path) -> None:
    write_image(scratch / "image", bestiary())
    with SquashfsImage(scratch / "image") as image:
        inodes = {inode.number: inode for _, inode in image.walk()}
        assert sorted(inodes) == list(range(1, image.superblock.inode_count + 1))
        assert {number: image.by_number(number) for number in inodes} == inodes
        assert all(
            image.by_number(inode.parent).number == inode.parent
            for path, inode in image.walk()
            if path and stat.S_ISDIR(inode.mode)
        )


def test_entries_are_changed_on_their_way(scratch: Path) -> None:
    """As a builder of packages does: another owner, without some names."""
    make_tree(scratch / "tree")
    entries = (entry for entry in entries_of(scratch / "tree") if not entry.path.startswith(b"a/b"))
    write_image(scratch / "image", entries, WriteOptions(force_uid=65534, force_gid=12))
    found = by_us(scratch / "image")
    assert {facts.owner for facts in found.values()} == {(65534, 12)}
    wanted = facts_of(scratch / "tree")
    assert {path: facts.content for path, facts in found.items()} == {
        path: facts.content for path, facts in wanted.items() if not path.startswith(b"a/b")
    }


@pytest.mark.parametrize("compressor", [kind for kind in Compressor if kind is not Compressor.LZO])
def test_the_smallest_metadata_are_read_by_unsquashfs(compressor: Compressor, tmp_path: Path) -> None:
    """lz4 made 5 bytes of the 4 in the table of owners, which unsquashfs took for damage."""
    require("unsquashfs")
    write_image(tmp_path / "image", [FileSpec(b"f", stat.S_IFREG)], WriteOptions(compressor=compressor))
    listed = subprocess.run(["unsquashfs", "-l", tmp_path / "image"], capture_output=True, text=True, timeout=PATIENCE)
    assert listed.stdout.split() == ["squashfs-root", "squashfs-root/f"]


@pytest.mark.mounts
def test_a_table_of_xattrs_makes_their_absence_no_error(scratch: Path) -> None:
    """The kernel's squashfs answers listxattr with EOPNOTSUPP where an image has no table, and so does an overlay."""
    write_image(scratch / "image", [FileSpec(b"f", stat.S_IFREG)], WriteOptions(xattr_table=True))
    with SquashfsImage(scratch / "image") as image:
        assert image.superblock.xattr_table != 2**64 - 1
        assert image.xattrs(image.lookup(b"f").ref) == {}
    for reader in ("kernel", "squashfuse"):
        require(*(("squashfuse",) if reader == "squashfuse" else ()))
        with mounted_image(scratch / "image", scratch / reader, with_=reader) as place:
            assert os.listxattr(place / "f") == []
    command = ["unsquashfs", "-d", str(scratch / "out"), str(scratch / "image")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)
    assert os.listxattr(scratch / "out/f") == []
