"""What the lane changes in a union, which takes it in. Sockets stand for the device."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.union.inodes import Directory, File
from tests.fuse.test_tables import Scene, number_of
from tests.lane.rig import CREATE, ENTRY, OPEN, RELEASE, RENAME, UNLINK


@pytest.fixture(name="scene")
def opened(scratch: Path) -> Iterator[Scene]:
    scene = Scene(scratch)
    try:
        yield scene
    finally:
        scene.close()


def create(scene: Scene, name: bytes) -> int | None:
    """Have a file made; its number, or None if that is for the union."""
    body = struct.pack("=IIII", os.O_WRONLY | os.O_CREAT, 0o100644, 0o022, 0) + name + b"\0"
    found = scene.rig.ask(CREATE, scene.node.ino, body)
    return None if found is None else int(ENTRY.unpack_from(found[1])[0])


def test_a_file_that_the_lane_makes_is_the_unions_too_and_is_taken_over_open(scene: Scene) -> None:
    assert create(scene, b"early") is None
    before = scene.union.names(scene.node.ino)
    scene.tables.change_files()
    assert create(scene, b"top") is None  # it is there
    number = create(scene, b"new")
    assert number is not None
    assert scene.union.names(scene.node.ino) == [*before, b"new"]
    assert scene.union.attributes(number).st_size == 0  # from here on it is a node
    os.write(scene.union.writable_fd(number), b"data")
    assert scene.union.lookup(scene.node.ino, b"new")[0].ino == number
    scene.union.rename(scene.node.ino, b"new", scene.node.ino, b"top")
    assert scene.lookup(b"new") == 0
    scene.union.unlink(scene.node.ino, b"top")
    handle = scene.union.data_handle(number)
    assert isinstance(handle, int) and os.pread(handle, 10, 0) == b"data"
    scene.union.release(number)
    scene.forget(number)
    with pytest.raises(OSError, match="Stale"):
        scene.union.node(number)
    assert create(scene, b"top") is None  # a whiteout is there
    assert create(scene, b"new")


def test_files_are_made_as_soon_as_a_directory_is_copied_up(scratch: Path) -> None:
    scene = Scene(scratch)
    try:
        scene.tables.change_files()
        sub, _ = scene.union.lookup(scene.node.ino, b"sub")
        assert isinstance(sub, Directory)
        scene.union.remember(sub)
        scene.union.names(sub.ino)
        scene.tables.offer(sub)
        scene.node = sub
        assert create(scene, b"one") is None
        scene.union.mkdir(sub.ino, b"dir", 0o755, scene.box.caller)
        number = create(scene, b"two")
        assert number and scene.lookup(b"two") == number
        assert scene.union.names(sub.ino) == [b"x", b"dir", b"two"]
    finally:
        scene.close()


def test_names_keep_their_cookies_when_the_lane_makes_files(scene: Scene) -> None:
    before = [*scene.union.names(scene.node.ino), b"one", b"two"]
    cookies = {name: cookie for cookie, name in enumerate(before, 3) if name != b"gone"}
    scene.tables.change_files()
    create(scene, b"one")
    scene.union.unlink(scene.node.ino, b"gone")
    create(scene, b"two")
    listing = scene.union.listing(scene.node.ino)
    assert {name: cookie for cookie, name in listing.keep_order().since(0, listing.names)} == cookies


def open_to_write(scene: Scene, number: int) -> bool:
    return scene.rig.ask(OPEN, number, struct.pack("=II", os.O_WRONLY, 0)) is not None


def rename(scene: Scene, old: bytes, new: bytes) -> bool:
    body = struct.pack("=Q", scene.node.ino) + old + b"\0" + new + b"\0"
    return scene.rig.ask(RENAME, scene.node.ino, body) is not None


def test_a_file_that_the_lane_copies_up_keeps_its_number_whoever_asks_for_it(scene: Scene) -> None:
    changed: list[int] = []
    scene.union.watch(changed.append)
    scene.tables.change_files()
    number = number_of(scene, b"below")
    assert open_to_write(scene, number)
    assert changed == [number, scene.node.ino]
    assert os.listxattr(os.path.join(scene.box.upper, b"d/below")) == ["trusted.overlay.layerfs.ino"]
    node, st = scene.union.lookup(scene.node.ino, b"below")  # by the object; the lane knows it by its number
    assert isinstance(node, File)
    assert (node.ino, node.is_upper, st.st_size, node.lookups) == (number, True, 5, 1)
    os.write(scene.union.writable_fd(number), b"ABOVE")
    scene.union.release(number)
    scene.forget(number)
    assert scene.union.lookup(scene.node.ino, b"below")[0].ino == number
    assert Path(os.fsdecode(scene.box.upper), "d/below").read_bytes() == b"ABOVE"
    assert Path(os.fsdecode(scene.box.layer(2)), "d/below").read_bytes() == b"below"


def test_what_the_lane_has_renamed_is_so_for_the_union(scene: Scene) -> None:
    scene.tables.change_files()
    number = number_of(scene, b"gone")
    cookies = {name: cookie for cookie, name in enumerate([*scene.union.names(scene.node.ino), b"new"], 3)}
    assert rename(scene, b"gone", b"new")
    listing = scene.union.listing(scene.node.ino)
    del cookies[b"gone"]
    assert {name: cookie for cookie, name in listing.keep_order().since(0, listing.names)} == cookies
    assert (listing.is_whiteout_at(b"gone"), listing.is_shadowed(b"new")) == (True, False)
    assert scene.union.lookup(scene.node.ino, b"new")[0].ino == number
    assert create(scene, b"gone") is None  # a whiteout is there
    scene.union.rename(scene.node.ino, b"new", scene.node.ino, b"gone")
    assert scene.union.attributes(number).st_size == 4
    scene.union.unlink(scene.node.ino, b"gone")
    assert listing.is_whiteout_at(b"gone") and b"new" not in listing.names
    assert scene.union.attributes(number).st_nlink == 0
    scene.forget(number)


def test_a_file_that_was_renamed_by_the_lane_is_adopted_at_its_new_name(scene: Scene) -> None:
    scene.tables.change_files()
    number = number_of(scene, b"top")
    scene.open(number)
    assert rename(scene, b"top", b"new")
    node = scene.union.file(number)
    assert (node.name, node.own != 0, node.opened().opens) == (b"new", True, 1)
    handle = scene.union.data_handle(number)
    assert isinstance(handle, int) and os.pread(handle, 9, 0) == b"top"
    scene.union.release(number)
    scene.forget(number)
    with pytest.raises(OSError, match="Stale"):
        scene.union.node(number)


def test_what_the_lane_has_removed_is_gone_for_the_union_and_held_on_to(scene: Scene) -> None:
    scene.tables.change_files()
    first, second = number_of(scene, b"gone"), number_of(scene, b"below")
    assert scene.rig.ask(UNLINK, scene.node.ino, b"gone\0") is None  # the device of all whiteouts is not there yet
    scene.union.unlink(scene.node.ino, b"gone")
    assert scene.rig.ask(UNLINK, scene.node.ino, b"below\0") is not None
    listing = scene.union.listing(scene.node.ino)
    assert (b"below" in listing.names, listing.is_whiteout_at(b"below")) == (False, True)
    node = scene.union.file(second)
    assert (node.lookups, node.is_upper, scene.union.attributes(second).st_nlink) == (1, True, 0)
    with pytest.raises(OSError, match="No such file"):
        scene.union.link(second, scene.node.ino, b"again")
    scene.union.open_file(second, os.O_RDWR)  # copied up, without a name
    os.write(scene.union.writable_fd(second), b"B")
    handle = scene.union.data_handle(second)
    assert isinstance(handle, int) and os.pread(handle, 9, 0) == b"Below"
    scene.union.release(second)
    for number in (first, second):
        scene.forget(number)
    with pytest.raises(OSError, match="Stale"):
        scene.union.node(second)


def test_a_new_file_that_the_lane_has_removed_is_held_on_to(scene: Scene) -> None:
    scene.tables.change_files()
    number = create(scene, b"new")
    assert number is not None
    assert scene.rig.ask(RELEASE, number, bytes(24)) is not None
    assert scene.rig.ask(UNLINK, scene.node.ino, b"new\0") is not None
    assert scene.union.attributes(number).st_nlink == 0
    scene.union.open_file(number, os.O_RDONLY)
    scene.union.release(number)
    scene.forget(number)
    assert create(scene, b"new")


def test_the_lane_opens_nothing_while_the_union_can_hold_no_more(scene: Scene) -> None:
    """Each file that was removed natively and asked for afterwards cost a descriptor, until there was none left."""
    scene.tables.change_files()
    scene.box.ov.files.limit = 8
    removed: list[int] = []
    for turn in range(20):
        name = b"file-%d" % turn
        if (number := create(scene, name)) is None:
            break
        assert scene.rig.ask(RELEASE, number, bytes(24)) is not None
        assert scene.rig.ask(UNLINK, scene.node.ino, name + b"\0") is not None
        assert scene.union.attributes(number).st_nlink == 0  # from here on it is a node
        removed.append(number)
        scene.tables.look()
    assert len(removed) == 4 and not scene.union.has_room()
    scene.forget(removed.pop())
    assert create(scene, b"again")
    for number in removed:
        scene.forget(number)
