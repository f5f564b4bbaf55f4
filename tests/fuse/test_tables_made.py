"""Directories that the lane makes in a union, what it sets, and what comes back to it. Sockets stand for the device."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.union.attrs import Change
from layerfs.union.inodes import Directory
from tests.fuse.test_tables import Scene, number_of
from tests.fuse.test_tables_edits import create, rename
from tests.lane.rig import CREATE, ENTRY, GETATTR, LOOKUP, MKDIR, READLINK, RELEASE, SETATTR, SYMLINK, UNLINK


@pytest.fixture(name="scene")
def opened(scratch: Path) -> Iterator[Scene]:
    scene = Scene(scratch)
    try:
        yield scene
    finally:
        scene.close()


def mkdir(scene: Scene, home: int, name: bytes) -> int | None:
    """Have a directory made; its number, or None if that is for the union."""
    found = scene.rig.ask(MKDIR, home, struct.pack("=II", 0o755, 0o022) + name + b"\0")
    return None if found is None else int(ENTRY.unpack_from(found[1])[0])


def create_in(scene: Scene, home: int, name: bytes) -> int | None:
    body = struct.pack("=IIII", os.O_WRONLY | os.O_CREAT, 0o100644, 0o022, 0) + name + b"\0"
    found = scene.rig.ask(CREATE, home, body)
    return None if found is None else int(ENTRY.unpack_from(found[1])[0])


def test_a_directory_that_the_lane_makes_is_a_node_of_the_unions_and_at_hand_for_both(scene: Scene) -> None:
    assert mkdir(scene, scene.node.ino, b"early") is None
    scene.tables.change_files()
    assert mkdir(scene, scene.node.ino, b"sub") is None  # it is there
    number = mkdir(scene, scene.node.ino, b"new")
    assert number is not None
    inner = mkdir(scene, number, b"inner")
    assert inner is not None
    made = create_in(scene, inner, b"file")
    node = scene.union.directory(inner)
    assert (node.lookups, node.parent, node.name) == (1, scene.union.directory(number), b"inner")
    assert (scene.union.names(scene.node.ino)[-1], scene.union.names(number)) == (b"new", [b"inner"])
    assert scene.union.lookup(number, b"inner")[0] is node
    assert scene.union.lookup(inner, b"file")[0].ino == made
    before = scene.rig.ask(GETATTR, inner, bytes(16))
    assert before is not None
    scene.union.mkdir(inner, b"more", 0o755, scene.box.caller)
    assert scene.rig.ask(LOOKUP, inner, b"more\0") is None
    scene.union.rmdir(inner, b"more")
    assert scene.rig.ask(LOOKUP, inner, b"more\0") is not None
    assert create_in(scene, inner, b"more")


def test_a_directory_that_the_lane_made_is_as_the_union_makes_it(scene: Scene) -> None:
    scene.tables.change_files()
    number = mkdir(scene, scene.node.ino, b"one")
    other = scene.union.mkdir(scene.node.ino, b"two", 0o755, scene.box.caller)
    assert number is not None and isinstance(other, Directory)
    node = scene.union.directory(number)
    scene.union.names(other.ino)
    one, two = (os.path.join(scene.box.upper, b"d", name) for name in (b"one", b"two"))
    assert os.stat(one).st_mode == os.stat(two).st_mode
    assert os.listxattr(one) == os.listxattr(two)
    assert node.parts is not None and other.parts is not None and node.listing is not None
    assert (node.own, node.candidates, node.children) == (other.own, other.candidates, other.children)
    assert (node.parts.upper is not None, node.parts.lowers) == (True, other.parts.lowers)
    assert scene.union.attributes(number).st_nlink == scene.union.attributes(other.ino).st_nlink


def test_a_directory_of_the_lanes_that_is_removed_is_dead_and_its_name_free(scene: Scene) -> None:
    scene.tables.change_files()
    number = mkdir(scene, scene.node.ino, b"new")
    assert number is not None
    scene.union.rmdir(scene.node.ino, b"new")
    assert scene.union.attributes(number).st_nlink == 0
    assert create_in(scene, number, b"late") is None
    assert mkdir(scene, scene.node.ino, b"new") not in (None, number)
    scene.union.forget(number, 1)
    with pytest.raises(OSError, match="Stale"):
        scene.union.node(number)


def test_a_directory_of_the_lanes_that_moved_is_left_to_the_union_with_all_that_is_in_it(scene: Scene) -> None:
    scene.tables.change_files()
    number = mkdir(scene, scene.node.ino, b"new")
    assert number is not None
    made = create_in(scene, number, b"file")
    assert made is not None
    scene.union.rename(scene.node.ino, b"new", scene.node.ino, b"moved")
    assert create_in(scene, number, b"other") is None
    assert scene.union.file(made).parent is scene.union.directory(number)
    assert os.listdir(os.path.join(scene.box.upper, b"d/moved")) == [b"file"]


def test_directories_of_the_lanes_are_closed_like_others_and_used_again(scene: Scene) -> None:
    scene.tables.change_files()
    scene.box.ov.handles.limit = 8
    before = len(os.listdir("/proc/self/fd"))
    numbers = []
    for index in range(40):
        if (number := mkdir(scene, scene.node.ino, b"d%d" % index)) is not None:
            numbers.append(number)
        else:  # the directory above was closed
            scene.union.mkdir(scene.node.ino, b"d%d" % index, 0o755, scene.box.caller)
    assert len(numbers) > 20
    assert scene.box.ov.handles.open_parts() <= 8
    assert len(os.listdir("/proc/self/fd")) <= before + 8
    assert create_in(scene, numbers[0], b"x") is None  # its descriptor is closed
    scene.union.create(numbers[0], b"x", 0o644, scene.box.caller)
    assert create_in(scene, numbers[0], b"y")


def test_a_forgotten_directory_of_the_lanes_is_forgotten_by_both(scene: Scene) -> None:
    scene.tables.change_files()
    scene.box.ov.table.parked_limit = 0
    number = mkdir(scene, scene.node.ino, b"new")
    assert number is not None
    scene.forget(number)
    with pytest.raises(OSError, match="Stale"):
        scene.union.node(number)
    assert create_in(scene, number, b"x") is None
    found, _ = scene.union.lookup(scene.node.ino, b"new")
    assert found.ino == number


def set_attributes(scene: Scene, number: int, valid: int, mode: int = 0) -> bool:
    body = struct.pack("=I4xQQQqqQIIIIIIII", valid, 0, 0, 0, 5, 5, 0, 0, 0, 0, mode, 0, 0, 0, 0)
    return scene.rig.ask(SETATTR, number, body) is not None


def test_a_directory_that_the_lane_has_set_is_still_the_one_that_the_union_knows(scene: Scene) -> None:
    """It is known by its owner and mode, with which it was not found again once it had been closed."""
    scene.tables.change_files()
    made = mkdir(scene, scene.node.ino, b"new")
    assert made is not None
    for number in (made, scene.node.ino):
        assert set_attributes(scene, number, 1, 0o40711)
        assert scene.union.attributes(number).st_mode == 0o40711
        part = scene.union.directory(number).upper()
        assert part is not None
        scene.box.ov.handles.drop(part)
        assert not set_attributes(scene, number, 1, 0o40700)
        assert scene.union.attributes(number).st_mode == 0o40711
        assert set_attributes(scene, number, 1 << 5)


def test_a_symlink_that_the_lane_makes_is_the_unions_too(scene: Scene) -> None:
    scene.tables.change_files()
    found = scene.rig.ask(SYMLINK, scene.node.ino, b"link\0to\0")
    assert found is not None
    (number,) = struct.unpack_from("=Q", found[1])
    assert scene.rig.ask(READLINK, number) == (0, b"to")
    node, st = scene.union.lookup(scene.node.ino, b"link")
    assert (node.ino, node.lookups, st.st_size, scene.union.readlink(number)) == (number, 1, 2, b"to")
    scene.forget(number)
    second = scene.rig.ask(SYMLINK, scene.node.ino, b"other\0to\0")
    assert second is not None
    (number,) = struct.unpack_from("=Q", second[1])
    assert scene.rig.ask(UNLINK, scene.node.ino, b"other\0") is not None
    assert (scene.union.readlink(number), scene.union.attributes(number).st_nlink) == (b"to", 0)
    scene.forget(number)


def test_what_the_lane_has_set_of_a_file_is_known_when_it_is_taken_over(scene: Scene) -> None:
    scene.tables.change_files()
    number, below = create(scene, b"new"), number_of(scene, b"below")
    assert number is not None
    for each in (number, below):
        assert set_attributes(scene, each, 1, 0o100600)
        assert scene.union.attributes(each).st_mode == 0o100600
        scene.union.set_attributes(each, Change(mode=0o640))
    scene.union.release(number)
    assert scene.union.lookup(scene.node.ino, b"below")[0].ino == below


def test_what_the_lane_has_replaced_is_so_for_the_union(scene: Scene) -> None:
    scene.tables.change_files()
    victim = number_of(scene, b"below")
    cookies = {name: cookie for cookie, name in enumerate([*scene.union.names(scene.node.ino), b"new"], 3)}
    number = create(scene, b"new")
    assert number is not None
    assert scene.rig.ask(RELEASE, number, bytes(24)) is not None
    assert rename(scene, b"new", b"below")
    del cookies[b"new"]
    listing = scene.union.listing(scene.node.ino)
    assert {name: cookie for cookie, name in listing.keep_order().since(0, listing.names)} == cookies
    assert (listing.is_shadowed(b"below"), listing.is_whiteout_at(b"below")) == (True, False)
    assert scene.union.lookup(scene.node.ino, b"below")[0].ino == number
    assert scene.union.attributes(victim).st_nlink == 0
    scene.union.open_file(victim, os.O_RDONLY)
    handle = scene.union.data_handle(victim)
    assert isinstance(handle, int) and os.pread(handle, 9, 0) == b"below"
    scene.union.release(victim)
    scene.union.unlink(scene.node.ino, b"below")
    assert listing.is_whiteout_at(b"below")
    for each in (victim, number):
        scene.forget(each)
        with pytest.raises(OSError, match="Stale"):
            scene.union.node(each)


def test_a_new_file_is_the_lanes_again_when_the_union_has_closed_it(scene: Scene) -> None:
    """An fsync took each file from the lane for as long as the kernel knew it."""
    scene.tables.change_files()
    number, empty = create(scene, b"new"), create(scene, b"empty")
    assert number is not None and empty is not None
    for each in (number, empty):
        assert scene.union.file(each).lookups == 1  # it is the union's, as by an fsync
    os.write(scene.union.writable_fd(number), b"data")
    scene.tables.closed(number)
    assert scene.union.file(number).lookups == 1, "it is open"
    scene.union.release(number)
    scene.union.release(empty)
    for each in (number, empty):
        scene.tables.closed(each)
    assert scene.rig.ask(GETATTR, number, bytes(16)) is not None
    assert scene.rig.ask(GETATTR, empty, bytes(16)) is None, "what is empty may stand for something else"
    assert rename(scene, b"new", b"newer")
    assert scene.union.lookup(scene.node.ino, b"newer")[0].ino == number


def test_a_file_of_the_upper_that_the_lane_has_not_made_stays_the_unions(scene: Scene) -> None:
    scene.tables.change_files()
    node, _ = scene.union.lookup(scene.node.ino, b"own")
    below, _ = scene.union.lookup(scene.node.ino, b"below")
    for each in (node, below):
        scene.union.remember(each)
        scene.union.open_file(each.ino, os.O_RDWR)
        scene.union.release(each.ino)
        scene.tables.closed(each.ino)
        assert scene.union.node(each.ino) is each
        assert scene.rig.ask(GETATTR, each.ino, bytes(16)) is None
