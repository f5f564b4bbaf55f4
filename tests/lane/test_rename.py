"""Renames over files that are there already; those to names that are free are in test_copyup.py."""

import os
import struct

from layerfs.lane.events import Edited, LaneEdit
from tests.lane.copies import ROOM, Scene
from tests.lane.rig import CREATE, FORGET, GETATTR, HOME, RELEASE, SETATTR, UNLINK, lookup, number_of


def make(scene: Scene, name: bytes, data: bytes = b"new") -> int:
    """Have a file made in the upper, and close it; its number."""
    body = struct.pack("=IIII", os.O_WRONLY | os.O_CREAT, 0o100644, 0o022, 0) + name + b"\0"
    assert scene.rig.ask(CREATE, HOME, body) is not None
    number = number_of(scene.upper / os.fsdecode(name))
    assert scene.write(number, 0, data)
    assert scene.rig.ask(RELEASE, number, bytes(24)) == (0, b"")
    return number


def links(scene: Scene, number: int) -> int | None:
    found = scene.rig.ask(GETATTR, number, bytes(16))
    return None if found is None else int(struct.unpack_from("=I", found[1], 16 + 64)[0])


def test_a_new_file_replaces_one_of_a_lower_and_then_one_of_the_upper(scene: Scene) -> None:
    victim, first = scene.known("file"), make(scene, b"tmp")
    scene.edits.clear()
    assert scene.rename(b"tmp", b"file")
    assert scene.edits == [
        Edited(LaneEdit.HIDDEN, HOME, b"file", victim),
        Edited(LaneEdit.REMOVED, HOME, b"tmp", first),
        Edited(LaneEdit.MADE, HOME, b"file", first),
    ]
    assert lookup(scene.rig, b"file") == (first, 3) and lookup(scene.rig, b"tmp") == (0, 0)
    second = make(scene, b"tmp", b"second")
    assert scene.rename(b"tmp", b"file")
    assert [edit.kind for edit in scene.edits[-3:]] == [LaneEdit.HIDDEN, LaneEdit.REMOVED, LaneEdit.MADE]
    assert lookup(scene.rig, b"file") == (second, 6)
    assert (links(scene, victim), links(scene, first), links(scene, second)) == (0, 0, 1)
    assert ((scene.upper / "file").read_bytes(), os.listdir(scene.upper)) == (b"second", ["file"])
    assert (scene.lower / "file").read_bytes() == b"content"
    before = len(os.listdir("/proc/self/fd"))
    for number, count in ((victim, 1), (first, 2)):
        scene.rig.request(FORGET, number, struct.pack("=Q", count))
        scene.rig.step()
        assert scene.rig.passed() is None
    assert len(os.listdir("/proc/self/fd")) == before - 2


def test_a_file_that_covers_one_of_a_lower_leaves_a_whiteout_where_it_was(scene: Scene) -> None:
    scene.known("file")
    number = make(scene, b"tmp")
    assert scene.rename(b"tmp", b"file")
    assert scene.rig.ask(UNLINK, HOME, b"file\0") is None, "a whiteout is to replace it"
    assert (scene.upper / "file").read_bytes() == b"new"
    assert scene.rename(b"file", b"away", ROOM)
    assert (scene.upper / "file").is_char_device() and (scene.room / "away").read_bytes() == b"new"
    assert [edit.kind for edit in scene.edits[-2:]] == [LaneEdit.HIDDEN, LaneEdit.MADE]
    assert lookup(scene.rig, b"file") == (0, 0) and scene.open(number, os.O_RDONLY)


def test_a_lower_file_replaces_another_one_and_leaves_a_whiteout(scene: Scene) -> None:
    number, victim = scene.known("file"), scene.known("other")
    assert scene.rename(b"file", b"other")
    assert [edit.kind for edit in scene.edits] == [LaneEdit.COPIED, LaneEdit.HIDDEN, LaneEdit.HIDDEN, LaneEdit.MADE]
    assert (scene.upper / "file").is_char_device() and (scene.upper / "other").read_bytes() == b"content"
    assert (links(scene, number), links(scene, victim)) == (1, 0)


def test_a_replacement_that_is_more_than_a_rename_is_for_others(scene: Scene) -> None:
    lower, own = scene.known("file"), make(scene, b"own")
    make(scene, b"tmp")
    before = len(os.listdir("/proc/self/fd"))
    assert not scene.rename(b"tmp", b"other"), "the kernel does not know it from us"
    assert not scene.rename(b"tmp", b"file", flags=1) and not scene.rename(b"tmp", b"tmp")
    for number, name in ((lower, b"file"), (own, b"own")):
        assert scene.open(number, os.O_RDONLY)
        assert not scene.rename(b"tmp", name), "it is open"
        assert scene.rig.ask(RELEASE, number, bytes(24)) == (0, b"")
    os.truncate(scene.upper / "own", 2 << 20)
    assert not scene.rename(b"tmp", b"own"), "to free it takes long"
    (scene.lower / "file").chmod(0o600)
    assert not scene.rename(b"tmp", b"file"), "it is not what the kernel knows"
    assert sorted(os.listdir(scene.upper)) == ["own", "tmp"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_time_that_the_kernel_sends_for_a_file_without_a_name_is_kept(scene: Scene) -> None:
    lower, own = scene.known("file"), make(scene, b"own")
    now = (scene.upper / "own").stat().st_mtime_ns
    with open(scene.upper / "own", "rb") as held:
        for name in (b"tmp", b"temp"):
            make(scene, name)
        assert scene.rename(b"tmp", b"own") and scene.rename(b"temp", b"file")
        for ns in (now, 7):
            body = struct.pack("=I4xQ16xQQQIII20x", 1 << 5 | 1 << 10, 0, 0, ns // 10**9, 9, 0, ns % 10**9, 9)
            for number in (lower, own):
                assert scene.rig.ask(SETATTR, number, body) is not None
            assert os.fstat(held.fileno()).st_mtime_ns == ns
    assert (scene.lower / "file").stat().st_mtime_ns == 7, "as it was"
    assert links(scene, own) == 0
