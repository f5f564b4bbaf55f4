"""What the lane answers of files in images: just what the union says of them. Sockets stand for the device."""

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.fuse import wire
from layerfs.fuse.tables import Tables
from layerfs.lowers.squash import SquashLower
from layerfs.union.attrs import Change
from layerfs.union.inodes import Directory
from layerfs.union.union import Union
from tests.host import require
from tests.lane.rig import (
    ENTRY,
    FORGET,
    GETATTR,
    GETXATTR,
    LOOKUP,
    OPEN,
    READ,
    READDIR,
    READDIRPLUS,
    READLINK,
    UNLINK,
    Rig,
    dirents,
)  # fmt: skip
from tests.lowers.packing import Packed
from tests.oracle.trees import Kind, Node, directory, file, symlink

WHOLE = struct.pack("=QQIIQII", 0, 0, 1 << 15, 0, 0, 0, 0)
SUPERBLOCK = 96  # bytes, before the data of the first file
DATA = {b"top": b"top", b"empty": b"", b"small": b"small" * 300, b"block": b"1234" * 1024}
LAYERS = (
    {
        b"d": directory(0o750), b"d/top": file(b"top"), b"d/hidden": Node(Kind.WHITEOUT), b"d/link": symlink(b"../x"),
        b"d/empty": file(), b"d/sub": directory(), b"d/sub/x": file(b"x"), b"only/a": file(b"a"),
    },
    {
        b"d": directory(), b"d/below": file(b"b" * 9000), b"d/hidden": file(b"2"), b"d/top": file(b"not seen"),
        b"d/small": file(DATA[b"small"]), b"d/block": file(DATA[b"block"]),
    },
)  # fmt: skip
NATIVE = (b"top", b"below", b"link", b"empty", b"small", b"block")


class Images(Packed):
    """A union of images, over layers that have more than a literal can say."""

    def _open(self) -> Union:
        top = Path(os.fsdecode(self.layer(1)), "d")
        os.link(top / "top", top / "linked")
        os.link(top / "top", top.parent / "only" / "linked")
        (top / "one").write_bytes(b"1")
        os.setxattr(top / "one", "user.word", b"value")
        os.utime(top / "link", (5, 7), follow_symlinks=False)
        os.mkfifo(top / "fifo")
        return super()._open()


class Scene:
    """A union of images with a lane before it; directories are handed over as they are named."""

    def __init__(self, box: Packed) -> None:
        self.box, self.union, self.rig = box, box.union, Rig()
        self.tables = Tables(self.union, self.rig.lane, lambda _, __: None)

    def directory(self, name: bytes) -> Directory:
        node, _ = self.union.lookup(1, name)
        assert isinstance(node, Directory)
        self.union.remember(node)
        self.union.names(node.ino)
        self.tables.offer(node)
        return node

    def lookup(self, parent: Directory, name: bytes) -> tuple[int, bytes] | None:
        """The number and the attributes that the lane answers; None if it asks the union."""
        found = self.rig.ask(LOOKUP, parent.ino, name + b"\0")
        if found is None:
            return None
        assert found[0] == 0
        return int(ENTRY.unpack_from(found[1])[0]), found[1][ENTRY.size :]

    def forget(self, number: int, count: int = 1) -> None:
        self.rig.request(FORGET, number, struct.pack("=Q", count))
        if self.rig.step() == 1:
            self.rig.passed()
            self.union.forget(number, count)
        self.tables.look()

    def close(self) -> None:
        self.rig.close()
        self.box.close()


@pytest.fixture
def scene(scratch: Path) -> Iterator[Scene]:
    require("mksquashfs")
    box = Packed(scratch, *LAYERS, upper={b"d/own": file(b"own")})
    scene = Scene(box)
    try:
        yield scene
    finally:
        scene.close()


@pytest.fixture
def odd(scratch: Path) -> Iterator[Scene]:
    """Files that are more than plain, beside one that is."""
    require("mksquashfs")
    scene = Scene(Images(scratch, {b"d/top": file(b"top"), b"d/link": symlink(b"t"), b"only": directory()}))
    try:
        yield scene
    finally:
        scene.close()


@pytest.mark.parametrize("name", NATIVE)
def test_a_file_is_shown_as_the_union_shows_it_byte_by_byte(scene: Scene, name: bytes) -> None:
    parent = scene.directory(b"d")
    found = scene.lookup(parent, name)
    assert found is not None
    number, shown = found
    asked = scene.rig.ask(GETATTR, number, bytes(16))
    assert asked is not None and asked[1][wire.ATTRIBUTES_REPLY.size :] == shown
    scene.forget(number)
    node, st = scene.union.lookup(parent.ino, name)
    assert node.ino == number and wire.attributes(number, st) == shown
    scene.union.drop(node)


def test_absent_names_and_whiteouts_in_images_are_answered(scene: Scene) -> None:
    parent = scene.directory(b"d")
    for name in (b"absent", b"hidden"):
        found = scene.lookup(parent, name)
        assert found is not None and found[0] == 0


@pytest.mark.parametrize("name", [b"top", b"empty", b"small", b"block"])
def test_a_small_file_is_opened_and_read_as_the_union_reads_it(scene: Scene, name: bytes) -> None:
    parent = scene.directory(b"d")
    found = scene.lookup(parent, name)
    assert found is not None
    number = found[0]
    assert scene.rig.ask(OPEN, number, bytes(8)) is not None
    answer = scene.rig.ask(READ, number, WHOLE)
    assert answer == (0, DATA[name])
    handle = scene.union.data_handle(number)
    assert not isinstance(handle, int) and handle.read(0, 1 << 15) == answer[1]
    assert scene.rig.ask(READ, number, WHOLE) is None
    scene.union.release(number)
    scene.forget(number)


def test_a_file_of_several_blocks_is_opened_by_the_union(scene: Scene) -> None:
    found = scene.lookup(scene.directory(b"d"), b"below")
    assert found is not None
    assert scene.rig.ask(OPEN, found[0], bytes(8)) is None
    scene.union.open_file(found[0], os.O_RDONLY)
    scene.union.release(found[0])
    scene.forget(found[0])


def test_damaged_data_are_told_by_the_union(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    parent = scene.directory(b"d")
    number = (scene.lookup(parent, b"small") or (0,))[0]
    with open(scene.box.place / "l2.sqfs", "r+b") as image:
        image.seek(SUPERBLOCK)
        image.write(b"\xff" * 200)
    assert scene.rig.ask(OPEN, number, bytes(8)) is None
    scene.union.open_file(number, os.O_RDONLY)
    handle = scene.union.data_handle(number)
    assert not isinstance(handle, int)
    with pytest.raises(OSError, match="Input/output"):
        handle.read(0, 100)
    assert "does not decompress" in caplog.text
    caplog.clear()
    scene.union.release(number)
    scene.forget(number)


def test_an_open_file_is_written_by_the_union_for_all(scene: Scene) -> None:
    number = (scene.lookup(scene.directory(b"d"), b"top") or (0,))[0]
    assert scene.rig.ask(OPEN, number, bytes(8)) is not None
    scene.union.set_attributes(number, Change(size=2))
    handle = scene.union.data_handle(number)
    assert isinstance(handle, int) and os.pread(handle, 100, 0) == b"to"
    assert scene.rig.ask(READ, number, WHOLE) is None
    scene.union.release(number)
    scene.forget(number)


def test_what_takes_long_to_uncompress_is_read_by_threads(scratch: Path) -> None:
    require("mksquashfs")

    class Slow(Packed):
        options_of_images = ("-comp", "xz")

    scene = Scene(Slow(scratch, {b"d/top": file(b"t" * 500)}))
    try:
        found = scene.lookup(scene.directory(b"d"), b"top")
        assert found is not None
        assert scene.rig.ask(OPEN, found[0], bytes(8)) is None
    finally:
        scene.close()


@pytest.mark.parametrize("name", [b"linked", b"one", b"fifo"])
def test_what_is_more_than_a_plain_file_is_the_unions(odd: Scene, name: bytes) -> None:
    parent = odd.directory(b"d")
    assert (odd.lookup(parent, name) is None) == (name != b"one")
    assert odd.lookup(parent, b"link") is not None


def test_only_attributes_that_an_image_does_not_have_are_answered(odd: Scene) -> None:
    parent = odd.directory(b"d")
    found = odd.lookup(parent, b"one")
    assert found is not None
    assert odd.rig.ask(GETXATTR, found[0], struct.pack("=II", 0, 0) + b"user.other\0") is None
    assert odd.union.get_xattr(found[0], b"user.word") == b"value"


def test_what_has_no_extended_attributes_says_so(scene: Scene) -> None:
    found = scene.lookup(scene.directory(b"d"), b"top")
    assert found is not None
    for name in (b"user.word", b"security.capability"):
        assert scene.rig.ask(GETXATTR, found[0], struct.pack("=II", 0, 0) + name + b"\0") == (errno.ENODATA, b"")
    assert scene.rig.ask(GETXATTR, found[0], struct.pack("=II", 0, 0) + b"trusted.x\0") is None
    with pytest.raises(OSError, match="No data") as caught:
        scene.union.get_xattr(found[0], b"user.word")
    assert caught.value.errno == errno.ENODATA


def test_links_are_read(scene: Scene) -> None:
    found = scene.lookup(scene.directory(b"d"), b"link")
    assert found is not None
    assert scene.rig.ask(READLINK, found[0]) == (0, b"../x")


def test_a_listing_shows_the_numbers_that_the_union_gives(scratch: Path) -> None:
    require("mksquashfs")
    scene = Scene(Packed(scratch, *LAYERS))
    try:
        parent = scene.directory(b"d")
        for opcode in (READDIR, READDIRPLUS):
            found = scene.rig.ask(opcode, parent.ino, WHOLE)
            assert found is not None
            listed = {name: number for _, number, _, name in dirents(found[1], plus=opcode == READDIRPLUS)}
            del listed[b"."], listed[b".."]
            assert set(listed) == {*NATIVE, b"sub"}
        for name, number in listed.items():
            node, _ = scene.union.lookup(parent.ino, name)
            assert node.ino == number, name
            scene.union.drop(node)
    finally:
        scene.close()


def test_a_directory_shows_what_its_image_says_until_the_upper_has_a_share(scene: Scene) -> None:
    parent = scene.directory(b"only")
    found = scene.rig.ask(GETATTR, parent.ino, bytes(16))
    st = scene.union.attributes(parent.ino)
    assert found is not None and found[1][16:] == wire.attributes(parent.ino, st)
    scene.union.mkdir(parent.ino, b"new", 0o755, scene.box.caller)
    found = scene.rig.ask(GETATTR, parent.ino, bytes(16))
    st = scene.union.attributes(parent.ino)
    assert found is not None and found[1][16:] == wire.attributes(parent.ino, st)


def test_a_file_becomes_a_node_and_goes_back(scene: Scene) -> None:
    parent = scene.directory(b"d")
    found = scene.lookup(parent, b"below")
    assert found is not None
    number, shown = found
    node = scene.union.node(number)
    assert (node.lookups, node.own) == (1, 0)
    assert wire.attributes(number, scene.union.attributes(number)) == shown
    assert scene.lookup(parent, b"below") is None, "both would answer for it"
    scene.union.open_file(number, os.O_RDONLY)
    scene.union.release(number)
    scene.tables.closed(number)
    asked = scene.rig.ask(GETATTR, number, bytes(16))
    assert asked is not None and asked[1][16:] == shown
    scene.tables.recall()
    assert scene.union.node(number).lookups == 1


def test_an_image_that_closed_its_directory_is_asked_all_the_same(scene: Scene) -> None:
    parent = scene.directory(b"d")
    found = scene.lookup(parent, b"top")
    assert found is not None
    scene.box.ov.handles.shrink(0)
    scene.box.ov.handles.shrink(0)
    assert parent.parts is not None and all(part.fd < 0 for part in parent.parts.all())
    assert scene.lookup(parent, b"top") == found
    scene.union.attributes(parent.ino)  # opens them again
    assert scene.lookup(parent, b"top") == found


def test_a_removed_file_lives_on_in_the_union(scene: Scene) -> None:
    parent = scene.directory(b"d")
    found = scene.lookup(parent, b"top")
    assert found is not None
    assert scene.rig.ask(UNLINK, parent.ino, b"top\0") is None
    scene.union.unlink(parent.ino, b"top")
    assert scene.union.attributes(found[0]).st_nlink == 0
    gone = scene.lookup(parent, b"top")
    assert gone is not None and gone[0] == 0


def test_where_the_lane_can_have_no_more_images_the_union_answers(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene.rig.lane, "source", lambda *_: None)
    parent = scene.directory(b"d")
    assert scene.lookup(parent, b"top") is None
    node, _ = scene.union.lookup(parent.ino, b"top")
    scene.union.remember(node)
    scene.tables.closed(node.ino)
    assert scene.union.node(node.ino) is node


def test_a_damaged_inode_is_the_unions_to_refuse(scene: Scene) -> None:
    parent = scene.directory(b"d")
    (lower, *_) = (tree for tree in scene.box.ov.lowers if isinstance(tree, SquashLower))
    source = lower.source()
    handle = next(part.fd for part in parent.parts.lowers if part.tree is lower) if parent.parts else 0
    good = lower.listing(handle)
    lower._listings.put(handle, {name: inode._replace(number=0) for name, inode in good.items()})
    assert source.names(handle) == {}
    scene.tables.drop(parent.ino)
    scene.tables.offer(parent)
    assert scene.lookup(parent, b"top") is None
