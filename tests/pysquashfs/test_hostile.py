"""Images that lie on purpose: each lie is told to an image whose metadata are plain, and is named by who is asked."""

import errno
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.pysquashfs import SquashfsError, SquashfsImage
from tests.host import require
from tests.pysquashfs.images import make_image, noise, prose

BROTHERS = 12


class Forger:
    """An image to change. Its metadata are plain, and its tables have one block each, but for inodes and listings."""

    def __init__(self, image: Path) -> None:
        self.data = bytearray(image.read_bytes())
        self.true = SquashfsImage(image)
        self.block = self.true.superblock

    def inode(self, path: bytes) -> int:
        """Where in the image the inode of a path lies."""
        return self.inode_block(path) + 2 + (self.true.lookup(path).ref & 0xFFFF)

    def inode_block(self, path: bytes) -> int:
        """Where the metadata block with a path's inode begins."""
        return self.block.inode_table + (self.true.lookup(path).ref >> 16)

    def entry(self, name: bytes) -> int:
        """Where the directory entry with a name lies, which is the only one of that name."""
        return self.data.index(struct.pack("<H", len(name) - 1) + name, self.block.directory_table) - 6

    def table(self, start: int) -> int:
        """Where the first entry of a table lies."""
        return int.from_bytes(self.data[start : start + 8], "little") + 2

    def put(self, at: int, layout: str, *values: object) -> None:
        struct.pack_into("<" + layout, self.data, at, *values)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("user xattrs", "mksquashfs")
    place = tmp_path_factory.mktemp("honest")
    tree = place / "tree"
    (tree / "outer/inner/core").mkdir(parents=True)
    (tree / "names").mkdir()
    for name in ("q", "qq", "slashed", "spade", "spare", "spent"):
        (tree / "names" / name).write_bytes(b"")
    for number in range(BROTHERS):
        (tree / f"brothers/b{number:02}").mkdir(parents=True)
    (tree / "crowd").mkdir()
    for number in range(60):
        (tree / f"crowd/of-a-name-so-long-that-few-fill-a-block-{number:03}").symlink_to("x")
    (tree / "indexed").mkdir()
    for number in range(400):
        (tree / f"indexed/so-many-that-they-fill-a-block-{number:03}").symlink_to("x")
    (tree / "blocks").write_bytes(noise(300_000))
    (tree / "tail").write_bytes(prose(100))
    (tree / "link").symlink_to("target")
    with open(tree / "hole", "wb") as file:
        file.truncate(1_000_000)
    (tree / "marked").write_bytes(b"")
    os.setxattr(tree / "marked", b"user.mark", b"v" * 50)
    return make_image("mksquashfs", tree, place / "image", "-noI", "-noX", "-noF", "-comp", "lz4")


def loop(forger: Forger) -> None:
    forger.put(forger.entry(b"core"), "H", forger.true.lookup(b"outer").ref & 0xFFFF)


def brothers_share_a_listing(forger: Forger) -> None:
    crowd = forger.inode(b"crowd") + 16  # start, nlink, size, offset
    start, _, size, offset = struct.unpack_from("<IIHH", forger.data, crowd)
    for number in range(BROTHERS):
        forger.put(forger.inode(b"brothers/b%02d" % number) + 16, "IIHH", start, 2, size, offset)


def rename(forger: Forger, name: bytes, new: bytes) -> None:
    """Give an entry another name of the same length, where it is."""
    forger.put(forger.entry(name) + 8, f"{len(name)}s", new)


def many_xattrs(forger: Forger) -> None:
    forger.put(forger.table(forger.block.xattr_table + 16) + 8, "I", 2**32 - 1)


def many_fragments(forger: Forger) -> None:
    forger.put(16, "I", 2**32 - 1)
    forger.put(forger.inode(b"tail") + 20, "I", 2**32 - 2)


def long_xattr(forger: Forger) -> None:
    at = forger.data.index(b"mark" + struct.pack("<I", 50))
    forger.put(at + 4, "I", 2**31)


def wild_index(forger: Forger) -> None:
    at = forger.inode(b"indexed")
    (count,) = struct.unpack_from("<H", forger.data, at + 32)
    at += 40
    for _ in range(count):
        forger.put(at, "I", 2**31)
        at += 13 + struct.unpack_from("<I", forger.data, at + 8)[0]


def mark(forger: Forger, back: int, layout: str, value: object) -> None:
    """Change what lies some bytes before the one xattr's name."""
    forger.put(forger.data.index(b"mark" + struct.pack("<I", 50)) - back, layout, value)


def block_sizes(forger: Forger, word: int) -> None:
    forger.put(forger.inode(b"blocks") + 32, "I", word)


def walk(image: SquashfsImage) -> object:
    return list(image.walk())


def pieces(path: bytes) -> Callable[[SquashfsImage], object]:
    return lambda image: list(image.pieces(image.lookup(path).ref))


def scan(path: bytes) -> Callable[[SquashfsImage], object]:
    return lambda image: image.scan(image.lookup(path).ref)


def look(path: bytes) -> Callable[[SquashfsImage], object]:
    return lambda image: image.lookup(path)


def find(path: bytes, name: bytes) -> Callable[[SquashfsImage], object]:
    return lambda image: image.find(image.lookup(path).ref, name)


def marks(image: SquashfsImage) -> object:
    return image.xattrs(image.lookup(b"marked").ref)


Lie = Callable[[Forger], object]
LIES: dict[str, tuple[Lie, Callable[[SquashfsImage], object], str]] = {
    "a directory is in itself": (loop, walk, "appears twice"),
    "directories share one listing": (brothers_share_a_listing, walk, "overlap"),
    "a name is a path": (lambda f: f.put(f.entry(b"slashed") + 8, "7s", b"sl/shed"), scan(b"names"), "name"),
    "a name has an end": (lambda f: f.put(f.entry(b"slashed") + 8, "7s", b"sl\0shed"), scan(b"names"), "name"),
    "a name is .": (lambda f: f.put(f.entry(b"q") + 8, "c", b"."), scan(b"names"), "name"),
    "a name is ..": (lambda f: f.put(f.entry(b"qq") + 8, "2s", b".."), scan(b"names"), "name"),
    "a name is there twice": (lambda f: rename(f, b"spent", b"spare"), scan(b"names"), "twice"),
    "a name comes again later": (lambda f: rename(f, b"spent", b"spade"), scan(b"names"), "twice"),
    "a name is too long": (lambda f: f.put(f.entry(b"q") + 6, "H", 300), scan(b"names"), "name"),
    "an entry is of another kind": (lambda f: f.put(f.entry(b"q") + 4, "H", 1), look(b"names/q"), "disagree"),
    "an entry is of another kind than its inode": (lambda f: f.put(f.entry(b"q") + 4, "H", 1), walk, "disagree"),
    "an entry is of no kind": (lambda f: f.put(f.entry(b"q") + 4, "H", 99), scan(b"names"), "unknown kind"),
    "an entry leads nowhere": (lambda f: f.put(f.entry(b"q"), "H", 8191), look(b"names/q"), "inode|metadata"),
    "a listing goes on": (lambda f: f.put(f.inode(b"names") + 24, "H", 65535), scan(b"names"), "lies|listing"),
    "a listing is elsewhere": (lambda f: f.put(f.inode(b"names") + 16, "I", 2**31), scan(b"names"), "outside"),
    "an inode is of no kind": (lambda f: f.put(f.inode(b"tail"), "H", 15), look(b"tail"), "unknown kind"),
    "an inode has no number": (lambda f: f.put(f.inode(b"tail") + 12, "I", 0), look(b"tail"), "no number"),
    "an owner is unknown": (lambda f: f.put(f.inode(b"tail") + 4, "H", 9), look(b"tail"), "owner"),
    "a link is endless": (lambda f: f.put(f.inode(b"link") + 20, "I", 2**32 - 1), look(b"link"), "length"),
    "a file has 2**60 bytes": (lambda f: f.put(f.inode(b"hole") + 24, "Q", 2**60), pieces(b"hole"), "blocks"),
    "a file has 2**64-1 bytes": (lambda f: f.put(f.inode(b"hole") + 24, "Q", 2**64 - 1), look(b"hole"), "blocks"),
    "a file has 4 GiB": (lambda f: f.put(f.inode(b"hole") + 24, "Q", 2**32), pieces(b"hole"), "block"),
    "a block is larger than blocks": (lambda f: block_sizes(f, 131073), pieces(b"blocks"), "impossible size"),
    "a block has strange bits": (lambda f: block_sizes(f, 1 << 25 | 5), pieces(b"blocks"), "impossible size"),
    "a block is outside": (
        lambda f: f.put(f.inode(b"blocks") + 16, "I", 2**32 - 1), pieces(b"blocks"), "outside the image"),
    "a fragment is not there": (
        lambda f: f.put(f.inode(b"tail") + 20, "I", 2**31), pieces(b"tail"), "fragment"),
    "a fragment is too far": (
        lambda f: f.put(f.inode(b"tail") + 24, "I", 131072), pieces(b"tail"), "fragment"),
    "a fragment block is outside": (
        lambda f: f.put(f.table(f.block.fragment_table), "Q", 2**62), pieces(b"tail"), "outside the image"),
    "an xattr index is not there": (
        lambda f: f.put(f.block.xattr_table + 8, "I", 0), marks, "index"),
    "xattrs are many": (many_xattrs, marks, "metadata|xattr"),
    "an xattr is long": (long_xattr, marks, "impossible size"),
    "an xattr's name has an end": (lambda f: mark(f, 0, "4s", b"ma\0k"), marks, "impossible name"),
    "an xattr has no name": (lambda f: mark(f, 2, "H", 0), marks, "impossible name"),
    "an xattr's value is elsewhere": (lambda f: mark(f, 4, "H", 0x100), marks, "outside"),
    "xattrs begin outside": (lambda f: f.put(f.block.xattr_table, "Q", 2**62), marks, "outside"),
    "xattrs are elsewhere": (lambda f: f.put(f.table(f.block.xattr_table + 16), "Q", 2**60), marks, "outside"),
    "an index leads away": (wild_index, find(b"indexed", b"zzz"), "directory index"),
    "an index has a long name": (
        lambda f: f.put(f.inode(b"indexed") + 48, "I", 2**31), find(b"indexed", b"zzz"), "directory index"),
    "a link's target has an end": (
        lambda f: f.put(f.inode(b"link") + 26, "c", b"\0"), lambda image: image.readlink(image.lookup(b"link").ref),
        "length"),
    "metadata are a bomb": (
        lambda f: f.put(f.inode_block(b"tail"), "H", 0x7FFF), look(b"tail"), "impossible size"),
    "metadata are nothing": (
        lambda f: f.put(f.inode_block(b"tail"), "H", 0x8000), look(b"tail"), "impossible size"),
    "ids are elsewhere": (lambda f: f.put(f.block.id_table, "Q", 2**63), look(b"tail"), "outside"),
    "tables are exchanged": (lambda f: f.put(64, "QQ", 2**40, 2**40 - 1), look(b""), "contradicts"),
    "there are 2**32 fragments": (many_fragments, pieces(b"tail"), "table"),
    "blocks are 2 GiB": (lambda f: f.put(12, "I", 2**31), look(b""), "block size|contradicts"),
    "an inode is exported from nowhere": (
        lambda f: f.put(f.table(f.block.export_table), "Q", 2**48 - 1), lambda image: image.by_number(1),
        "outside|reference"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_lie_is_named(lie: str, honest: Path, tmp_path: Path) -> None:
    tell, question, words = LIES[lie]
    forger = Forger(honest)
    question(forger.true)
    tell(forger)
    forger.true.close()
    (tmp_path / "forged").write_bytes(forger.data)
    with pytest.raises(SquashfsError, match=words) as caught, SquashfsImage(tmp_path / "forged") as image:
        question(image)
    assert caught.value.errno == (errno.E2BIG if lie == "a file has 2**60 bytes" else errno.EIO)
    assert str(caught.value).startswith(f"{tmp_path / 'forged'}: ")
    assert "\n" not in str(caught.value)


def test_path_through_a_loop_ends(honest: Path, tmp_path: Path) -> None:
    forger = Forger(honest)
    loop(forger)
    (tmp_path / "forged").write_bytes(forger.data)
    with SquashfsImage(tmp_path / "forged") as image:
        assert image.lookup(b"outer/inner/core/inner/core/inner").ref == image.lookup(b"outer/inner").ref


def forged(forger: Forger, place: Path) -> SquashfsImage:
    """The image as it is now."""
    forger.true.close()
    (place / "forged").write_bytes(forger.data)
    return SquashfsImage(place / "forged")


def test_names_out_of_order_are_read_as_the_kernel_reads_them(honest: Path, tmp_path: Path) -> None:
    forger = Forger(honest)
    expected = [name for name, _ in forger.true.scan(forger.true.lookup(b"names").ref)]
    rename(forger, b"slashed", b"spiced!")
    expected[2] = b"spiced!"
    with forged(forger, tmp_path) as image:
        names = image.lookup(b"names")
        assert [name for name, _ in image.scan(names.ref)] == expected
        assert all(image.find(names.ref, name) is not None for name in expected)
        assert image.find(names.ref, b"slashed") is None


def test_one_damaged_inode_costs_its_own_name(honest: Path, tmp_path: Path) -> None:
    """The whole directory was an error."""
    forger = Forger(honest)
    forger.put(forger.entry(b"q"), "H", 8191)
    forger.put(forger.inode(b"names/spare") + 4, "H", 9)
    with forged(forger, tmp_path) as image:
        names = image.lookup(b"names")
        found = {name: (bool(inode.number), stat.S_IFMT(inode.mode)) for name, inode in image.scan(names.ref)}
        whole = dict.fromkeys((b"qq", b"slashed", b"spade", b"spent"), (True, stat.S_IFREG))
        assert found == whole | {b"q": (False, stat.S_IFREG), b"spare": (False, stat.S_IFREG)}
        for name in (b"q", b"spare"):
            with pytest.raises(SquashfsError) as caught:
                image.find(names.ref, name)
            assert caught.value.errno == errno.EIO


def shorten(forger: Forger, path: bytes) -> None:
    """Leave the bytes for . and .. out of a directory's size."""
    at = forger.inode(path) + 24
    forger.put(at, "H", struct.unpack_from("<H", forger.data, at)[0] - 3)


def test_a_directory_whose_size_lacks_dot_and_dot_dot_is_read(honest: Path, tmp_path: Path) -> None:
    """squashfs-tools-ng before 1.0.6 and 1.1.3 wrote such sizes; the kernel reads on to the end of a run of entries."""
    forger = Forger(honest)
    true = forger.true
    expected = {path: [name for name, _ in true.scan(true.lookup(path).ref)] for path in (b"names", b"crowd")}
    for path in expected:
        shorten(forger, path)
    with forged(forger, tmp_path) as image:
        for path, names in expected.items():
            assert [name for name, _ in image.scan(image.lookup(path).ref)] == names
            assert image.lookup(path + b"/" + names[-1])


def test_redundant_counts_that_are_wrong_keep_nothing_from_being_read(honest: Path, tmp_path: Path) -> None:
    """The kernel looks at neither the number of inodes nor the sizes beside xattrs."""
    forger = Forger(honest)
    expected = {path: inode.number for path, inode in forger.true.walk()}
    forger.put(4, "I", 1)
    forger.put(forger.table(forger.block.xattr_table + 16) + 12, "I", 2**31)
    with forged(forger, tmp_path) as image:
        assert {path: inode.number for path, inode in image.walk()} == expected
        assert image.xattrs(image.lookup(b"marked").ref) == {b"user.mark": b"v" * 50}


def test_an_xattr_of_a_prefix_that_nobody_knows_is_passed_over(honest: Path, tmp_path: Path) -> None:
    """The kernel lists the others; here it was an error of the file."""
    forger = Forger(honest)
    mark(forger, 4, "H", 7)
    with forged(forger, tmp_path) as image:
        assert image.xattrs(image.lookup(b"marked").ref) == {}
