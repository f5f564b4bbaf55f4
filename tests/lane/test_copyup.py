"""The first write to a file of a lower, and a rename: the lane copies up what is small and plain."""

import os
import struct
from collections.abc import Callable

import pytest

from layerfs.lane.events import Durable, Edited, LaneEdit, LaneEvent
from tests.lane.copies import NUMBER, ROOM, Scene
from tests.lane.rig import (
    FORGET,
    GETATTR,
    HOME,
    RANK_SHIFT,
    RELEASE,
    SETATTR,
    UNLINK,
    lookup,
    number_of,
)  # fmt: skip


def test_a_file_that_is_opened_to_write_is_copied_up_whole(scene: Scene) -> None:
    number = scene.known("file")
    times = scene.upper.stat().st_mtime_ns
    assert scene.open(number, os.O_RDONLY) and scene.open(number)
    st = (scene.upper / "file").stat()
    assert ((scene.upper / "file").read_bytes(), st.st_mode, st.st_mtime_ns) == (b"content", 0o100640, 7)
    assert os.getxattr(scene.upper / "file", NUMBER) == b"%d:%d" % (st.st_ino, number)
    assert (scene.upper.stat().st_mtime_ns, os.listdir(scene.scratch)) == (times, [])
    assert scene.edits == [Edited(LaneEdit.COPIED, HOME, b"file", number)]
    assert scene.write(number, 0, b"CON") and scene.read(number) == b"CONtent"
    assert scene.rig.ask(GETATTR, number, bytes(16)) is not None
    for _ in range(2):
        assert scene.rig.ask(RELEASE, number, bytes(24)) == (0, b"")
    assert (scene.lower / "file").read_bytes() == b"content"
    assert lookup(scene.rig, b"file") is None  # its number is not its own
    assert scene.open(number, os.O_RDONLY) and scene.read(number) == b"CONtent"
    assert scene.open(number) and len(scene.edits) == 1
    taken = scene.rig.lane.take(number)
    assert taken is not None
    os.close(taken.fd)
    assert (taken.device, taken.number, taken.written, taken.opens) == (st.st_dev, st.st_ino, True, 2)
    assert number != 3 << RANK_SHIFT | st.st_ino


@pytest.mark.parametrize("name", ["large", "linked", "marked", "sparse", "setuid"])
def test_what_is_more_than_plain_is_copied_up_by_others(scene: Scene, name: str) -> None:
    found = lookup(scene.rig, name.encode())
    if found is not None:
        assert not scene.open(found[0])
    assert not scene.rename(name.encode(), b"new")
    assert (os.listdir(scene.upper), os.listdir(scene.scratch), scene.edits) == ([], [], [])


def test_what_was_left_in_the_scratch_directory_is_in_nobodys_way(scene: Scene) -> None:
    (scene.scratch / "lane").write_bytes(b"left by one that was killed")
    assert scene.open(scene.known("file"))
    assert (scene.upper / "file").read_bytes() == b"content"


def test_a_copy_that_cannot_keep_its_number_is_left_to_others(scene: Scene) -> None:
    scene.rig.lane.change_files(scene.rig.fds[2], Durable.SYNCED, "nonsense", writeback=True)
    assert not scene.open(scene.known("file"))
    scene.rig.lane.change_files(scene.rig.fds[2], Durable.SYNCED, "", writeback=True)
    assert not scene.open(scene.known("file"))
    assert (os.listdir(scene.upper), os.listdir(scene.scratch), scene.edits) == ([], [], [])


def test_a_file_that_was_exchanged_below_is_not_copied_up(scene: Scene) -> None:
    number = scene.known("file")
    (scene.lower / "new").write_bytes(b"another")
    (scene.lower / "new").rename(scene.lower / "file")
    assert not scene.open(number)
    assert os.listdir(scene.upper) == []


@pytest.mark.parametrize("durable", list(Durable))
def test_a_copy_is_the_same_however_it_gets_to_disk(scene: Scene, durable: Durable) -> None:
    scene.rig.lane.change_files(scene.rig.fds[2], durable, NUMBER, writeback=True)
    assert scene.open(scene.known("file"))
    assert (scene.upper / "file").read_bytes() == b"content"


def test_strangers_to_set_ids_are_for_others(scene: Scene) -> None:
    assert not scene.open(scene.known("setuid"), os.O_WRONLY, uid=1000)


@pytest.mark.parametrize("to", [HOME, ROOM])
@pytest.mark.parametrize("flags", [None, 0, 1])
def test_a_file_is_renamed_and_a_whiteout_left(scene: Scene, to: int, flags: int | None) -> None:
    number = scene.known("file")
    assert scene.open(number, os.O_RDONLY)
    scene.rig.lane.change(to, b"free", 0x7FFFFFFE)
    assert scene.rename(b"file", b"new", to, flags)
    there = (scene.upper if to == HOME else scene.room) / "new"
    assert there.read_bytes() == b"content"
    assert (scene.upper / "file").is_char_device()
    assert scene.edits == [
        Edited(LaneEdit.COPIED, HOME, b"file", number),
        Edited(LaneEdit.HIDDEN, HOME, b"file", number),
        Edited(LaneEdit.MADE, to, b"new", number),
    ]
    assert lookup(scene.rig, b"file") == (0, 0)
    assert scene.read(number) == b"content"
    assert scene.rig.ask(GETATTR, number, bytes(16)) is not None
    taken = scene.rig.lane.take(number)
    assert taken is not None
    os.close(taken.fd)
    assert (taken.parent, taken.name, taken.number, taken.written) == (to, b"new", there.stat().st_ino, False)


def test_a_new_file_is_renamed_without_a_whiteout(scene: Scene) -> None:
    body = struct.pack("=IIII", os.O_WRONLY | os.O_CREAT, 0o100644, 0o022, 0) + b"new\0"
    assert scene.rig.ask(35, HOME, body) is not None
    number = number_of(scene.upper / "new")
    assert scene.rename(b"new", b"newer", ROOM)
    assert (os.listdir(scene.upper), os.listdir(scene.room)) == ([], ["newer"])
    assert [edit.kind for edit in scene.edits] == [LaneEdit.MADE, LaneEdit.REMOVED, LaneEdit.MADE]
    assert scene.write(number, 0, b"data") and (scene.room / "newer").read_bytes() == b"data"


def hide(scene: Scene) -> None:
    os.mknod(scene.upper / "new", 0o20000, 0)


def take(scene: Scene) -> None:
    scene.rig.lane.change(HOME, b"new", 0x7FFFFFFF)


@pytest.mark.parametrize(
    ("old", "new", "flags", "before"),
    [
        (b"file", b"other", None, None),
        (b"file", b"new", None, take),
        (b"file", b".wh.x", None, None),
        (b"file", b"new", 2, None),
        (b"file", b"new", 4, None),
        (b"gone", b"new", None, None),
    ],
)
def test_other_renames_are_for_others(
    scene: Scene, old: bytes, new: bytes, flags: int | None, before: Callable[[Scene], None] | None
) -> None:
    scene.known("file")
    if before is not None:
        before(scene)
    assert not scene.rename(old, new, flags=flags)
    assert (os.listdir(scene.upper), scene.edits) == ([], [])


def test_a_rename_over_a_whiteout_is_for_others_who_find_the_copy(scene: Scene) -> None:
    number = scene.known("file")
    hide(scene)
    assert not scene.rename(b"file", b"new")
    assert scene.edits == [Edited(LaneEdit.COPIED, HOME, b"file", number)]
    assert (scene.upper / "new").is_char_device() and (scene.upper / "file").read_bytes() == b"content"


def test_the_time_that_the_kernel_sends_after_a_rename_is_there_already(scene: Scene) -> None:
    number = scene.known("file")
    assert scene.rename(b"file", b"new")
    body = struct.pack("=I4xQ16xQQQIII20x", 1 << 5 | 1 << 10, 0, 0, 0, 9, 0, 7, 9)
    assert scene.rig.ask(SETATTR, number, body) is not None
    body = struct.pack("=I4xQ16xQQQIII20x", 1 << 5 | 1 << 10, 0, 0, 0, 9, 0, 8, 9)
    assert (scene.upper / "new").stat().st_mtime_ns == 7
    assert scene.rig.ask(SETATTR, number, body) is not None
    assert (scene.upper / "new").stat().st_mtime_ns == 8


def unlink(scene: Scene, name: bytes) -> bool:
    found = scene.rig.ask(UNLINK, HOME, name + b"\0")
    return found is not None and found[0] == 0


@pytest.fixture
def whiteout(scene: Scene) -> None:
    os.mknod(scene.scratch / "whiteout", 0o20000, 0)


@pytest.mark.usefixtures("whiteout")
def test_a_file_of_the_lower_is_removed_by_a_whiteout_and_held_on_to(scene: Scene) -> None:
    number = scene.known("file")
    assert unlink(scene, b"file")
    assert (scene.upper / "file").is_char_device() and (scene.lower / "file").exists()
    assert scene.edits == [Edited(LaneEdit.HIDDEN, HOME, b"file", number)]
    assert lookup(scene.rig, b"file") == (0, 0)
    for opcode, body in (
        (GETATTR, bytes(16)),
        (SETATTR, struct.pack("=I4xQ16xQQQIII20x", 1 << 5 | 1 << 10, 0, 0, 99, 9, 0, 8, 9)),
    ):
        found = scene.rig.ask(opcode, number, body)
        assert found is not None
        mode, links = struct.unpack_from("=II", found[1], 16 + 60)
        assert (mode, links) == (0o100640, 0)
    assert not scene.open(number, os.O_RDONLY) and not scene.open(number) and not unlink(scene, b"file")
    taken = scene.rig.lane.take(number)
    assert taken is not None and (taken.gone, taken.lookups) == (1, 1)
    assert os.fstat(taken.fd).st_ino == (scene.lower / "file").stat().st_ino
    os.close(taken.fd)


@pytest.mark.usefixtures("whiteout")
def test_what_was_removed_is_closed_when_it_is_forgotten(scene: Scene) -> None:
    before = len(os.listdir("/proc/self/fd"))
    number = scene.known("file")
    assert unlink(scene, b"file")
    assert len(os.listdir("/proc/self/fd")) == before + 1
    scene.rig.request(FORGET, number, struct.pack("=Q", 1))
    assert scene.rig.step() == LaneEvent.NOTHING
    assert len(os.listdir("/proc/self/fd")) == before and scene.rig.lane.any() == 0


def test_a_new_file_is_removed_and_its_name_is_free(scene: Scene) -> None:
    body = struct.pack("=IIII", os.O_WRONLY | os.O_CREAT, 0o100644, 0o022, 0) + b"new\0"
    assert scene.rig.ask(35, HOME, body) is not None
    number = number_of(scene.upper / "new")
    assert not unlink(scene, b"new")  # somebody has it open
    assert scene.rig.ask(RELEASE, number, bytes(24)) == (0, b"")
    assert unlink(scene, b"new") and os.listdir(scene.upper) == []
    assert scene.edits[-1] == Edited(LaneEdit.REMOVED, HOME, b"new", number)
    assert scene.rig.ask(35, HOME, body) is not None
    assert number_of(scene.upper / "new") != number
    assert scene.rig.ask(GETATTR, number, bytes(16)) is not None


@pytest.mark.usefixtures("whiteout")
def test_what_needs_a_descriptor_is_for_others_while_none_may_be_opened(scene: Scene) -> None:
    number, new = scene.known("file"), struct.pack("=IIII", os.O_RDWR | os.O_CREAT, 0o100644, 0o022, 0) + b"new\0"
    scene.rig.lane.opens = False
    assert not scene.open(number) and not scene.open(number, os.O_RDONLY) and not unlink(scene, b"file")
    assert not scene.rename(b"file", b"moved") and scene.rig.ask(35, HOME, new) is None
    assert (os.listdir(scene.upper), scene.edits) == ([], [])
    scene.rig.lane.opens = True
    assert scene.rig.ask(35, HOME, new) is not None and unlink(scene, b"file")


@pytest.mark.parametrize("name", [b"file", b"other", b"linked", b"gone"])
def test_removals_are_for_others_where_there_is_no_whiteout_yet_or_the_file_is_not_plain(
    scene: Scene, name: bytes
) -> None:
    scene.known("file")
    scene.known("other")
    if name == b"other":
        os.mknod(scene.scratch / "whiteout", 0o20000, 0)
        assert scene.open(number_of(scene.lower / "other"), os.O_RDONLY)
    assert not unlink(scene, name)
    assert (os.listdir(scene.upper), scene.edits) == ([], [])
