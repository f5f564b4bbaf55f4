"""Files that the lane makes in the upper, and what is written to them."""

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.lane.events import Durable, Edited, LaneEdit, LaneEvent
from tests.lane.rig import (
    CREATE,
    FORGET,
    GETATTR,
    GETXATTR,
    HOME,
    OPEN,
    READ,
    RELEASE,
    SETATTR,
    WRITE,
    Rig,
    lookup,
    number_of,
)  # fmt: skip

NO_FSETID = 1 << 63  # in a handle
MTIME, CTIME = 1 << 5, 1 << 10  # FATTR_*


@pytest.fixture
def rig(upper: Path) -> Iterator[Rig]:
    with Rig() as rig:
        rig.hand_over(HOME, upper, [b"old"])
        st = upper.stat()
        rig.lane.top(HOME, 0, single=True, makes=True, mode=st.st_mode, uid=st.st_uid, gid=st.st_gid)
        rig.lane.change_files(-1, Durable.SYNCED, "", writeback=True)
        yield rig


def asked(name: bytes, mode: int = 0o644, umask: int = 0o022) -> bytes:
    """The body of a CREATE."""
    return struct.pack("=IIII", os.O_WRONLY | os.O_CREAT, 0o100000 | mode, umask, 0) + name + b"\0"


def create(rig: Rig, name: bytes, mode: int = 0o644, umask: int = 0o022) -> tuple[int, int] | None:
    """Have a file made; its number and handle, or None if that is for others."""
    found = rig.ask(CREATE, HOME, asked(name, mode, umask))
    if found is None:
        return None
    assert found[0] == 0
    (number,), (handle, flags, _) = struct.unpack_from("=Q", found[1]), struct.unpack_from("=QII", found[1], 128)
    assert flags == 2  # FOPEN_KEEP_CACHE
    return number, handle


def write(rig: Rig, number: int, handle: int, offset: int, data: bytes) -> int | None:
    """Have something written; how much was, or None if that is for others."""
    body = struct.pack("=QQIIQII", handle, offset, len(data), 1, 0, 0, 0) + data
    rig.request(WRITE, number, body)
    if rig.step() == LaneEvent.WRITE:
        rig.lane.written(errno.EIO, 0)
        rig.answer()
        return None
    found = rig.answer()
    assert found is not None and found[1] == 0
    return int.from_bytes(found[2], "little")


def mtime(handle: int, ns: int, valid: int = MTIME | CTIME) -> bytes:
    """The body of a SETATTR of a time."""
    seconds, rest = divmod(ns, 10**9)
    return struct.pack("=I4xQ16xQQQIII20x", valid, handle, 1, seconds, 1, 0, rest, 0)


def test_a_file_is_made_in_the_upper_and_the_name_told_of_once_the_wait_is_over(rig: Rig, upper: Path) -> None:
    edits: list[Edited] = []
    rig.lane.edited = edits.append
    number, handle = create(rig, b"new", 0o666, 0o027) or (0, 0)
    assert number == handle == number_of(upper / "new")
    assert (upper / "new").stat().st_mode == 0o100640
    assert edits == [Edited(LaneEdit.MADE, HOME, b"new", number)]
    assert write(rig, number, handle, 0, b"data") == 4
    assert write(rig, number, handle, 2, b"ta!") == 3
    assert rig.ask(READ, number, struct.pack("=QQIIQII", handle, 0, 10, 0, 0, 0, 0)) == (0, b"data!")
    assert rig.ask(GETXATTR, number, struct.pack("=II", 20, 0) + b"security.capability\0") == (errno.ENODATA, b"")
    assert lookup(rig, b"new") == (number, 5)
    assert rig.ask(RELEASE, number, bytes(24)) == (0, b"")
    assert write(rig, number, handle, 0, b"late") is None
    assert (upper / "new").read_bytes() == b"data!"
    assert rig.ask(OPEN, number, bytes(8)) is not None


def test_the_mtime_is_the_kernels_and_ctime_is_the_hosts(rig: Rig, upper: Path) -> None:
    number, handle = create(rig, b"new") or (0, 0)
    told = (upper / "new").stat().st_mtime_ns
    os.utime(upper / "new", ns=(1, told - 5))
    assert write(rig, number, handle, 0, b"data") == 4
    assert (upper / "new").stat().st_mtime_ns == told - 5
    assert rig.ask(SETATTR, number, mtime(handle, told + 7)) is not None
    st = (upper / "new").stat()
    assert (st.st_atime_ns, st.st_mtime_ns, st.st_size) == (1, told + 7, 4)


@pytest.mark.parametrize(
    ("name", "mode", "uid"),
    [
        (b"old", 0o644, 0),  # taken
        (b"hidden", 0o644, 0),  # has a whiteout
        (b".wh.x", 0o644, 0),
        (b"a/b", 0o644, 0),
        (b"new", 0o644, 1000),  # somebody else's
    ],
)
def test_what_is_more_than_one_call_is_for_others(rig: Rig, upper: Path, name: bytes, mode: int, uid: int) -> None:
    before = sorted(os.listdir(upper))
    assert rig.ask(CREATE, HOME, asked(name, mode), uid) is None
    assert sorted(os.listdir(upper)) == before
    if name == b"hidden":  # and it is absent as before
        assert lookup(rig, b"hidden") == (0, 0)


def test_nothing_is_made_unless_that_was_allowed(upper: Path) -> None:
    st = upper.stat()
    with Rig() as rig:
        rig.hand_over(HOME, upper, [b"old"])
        rig.lane.top(HOME, 0, single=True, makes=True, mode=st.st_mode, uid=st.st_uid, gid=st.st_gid)
        assert create(rig, b"new") is None
        rig.lane.change_files(-1, Durable.SYNCED, "", writeback=True)
        rig.lane.top(HOME, 0, single=True, mode=st.st_mode, uid=st.st_uid, gid=st.st_gid)
        assert create(rig, b"new") is None
        assert not (upper / "new").exists()


def test_a_file_whose_number_cannot_be_told_is_made_by_others(upper: Path) -> None:
    st = upper.stat()
    with Rig() as rig:
        share = os.open(upper, os.O_RDONLY)
        rig.fds.append(share)
        assert rig.lane.directory(HOME, 1, [], [], [share])  # of a filesystem without a rank
        rig.lane.top(HOME, 0, single=True, makes=True, mode=st.st_mode, uid=st.st_uid, gid=st.st_gid)
        rig.lane.change_files(-1, Durable.SYNCED, "", writeback=True)
        assert create(rig, b"new") is None
        assert not (upper / "new").exists()


def test_what_is_taken_over_is_open_for_writing_and_forgotten_by_the_lane(rig: Rig, upper: Path) -> None:
    number, handle = create(rig, b"new") or (0, 0)
    taken = rig.lane.take(number)
    assert taken is not None
    try:
        assert (taken.name, taken.opens, taken.lookups, taken.written, taken.stored) == (b"new", 1, 1, True, True)
        os.write(taken.fd, b"more")
        assert (upper / "new").read_bytes() == b"more"
        assert write(rig, number, handle, 0, b"data") is None
    finally:
        os.close(taken.fd)


def test_a_set_id_bit_and_a_writer_without_rights_are_for_others(rig: Rig) -> None:
    number, handle = create(rig, b"new", 0o4755) or (0, 0)
    assert write(rig, number, handle | NO_FSETID, 0, b"data") is None
    assert write(rig, number, handle, 0, b"data") == 4


def test_a_file_that_is_forgotten_while_it_is_open_is_closed_by_its_release(rig: Rig, upper: Path) -> None:
    number, handle = create(rig, b"new") or (0, 0)
    rig.request(FORGET, number, struct.pack("=Q", 1))
    assert rig.step() == LaneEvent.NOTHING
    assert write(rig, number, handle, 0, b"data") == 4
    assert rig.ask(RELEASE, number, bytes(24)) == (0, b"")
    assert rig.lane.any() == 0
    assert rig.ask(GETATTR, number, bytes(16)) is None
    assert lookup(rig, b"new") == (number, 4)


def test_descriptors_are_bounded(upper: Path) -> None:
    st = upper.stat()
    with Rig(files=2) as rig:
        rig.hand_over(HOME, upper, [b"old"])
        rig.lane.top(HOME, 0, single=True, makes=True, mode=st.st_mode, uid=st.st_uid, gid=st.st_gid)
        rig.lane.change_files(-1, Durable.SYNCED, "", writeback=True)
        first = create(rig, b"a")
        assert first and create(rig, b"b") and not create(rig, b"c")
        rig.ask(RELEASE, first[0], bytes(24))
        assert create(rig, b"c")


def test_a_name_that_goes_can_be_made_again(rig: Rig, upper: Path) -> None:
    number, _ = create(rig, b"new") or (0, 0)
    taken = rig.lane.take(number)
    assert taken is not None
    os.close(taken.fd)
    (upper / "new").unlink()
    rig.lane.change(HOME, b"new", 0x7FFFFFFE)
    assert lookup(rig, b"new") == (0, 0)
    assert create(rig, b"new") is not None


def test_a_group_that_is_not_the_servers_needs_a_setgid_directory(rig: Rig, upper: Path) -> None:
    header = struct.Struct("=IIQQIIIHH")

    def made(name: bytes) -> bool:
        body = asked(name)
        rig.unique += 2
        rig.kernel.send(header.pack(header.size + len(body), CREATE, rig.unique, HOME, 0, 5, 1, 0, 0) + body)
        if rig.step() == LaneEvent.REQUEST:
            assert rig.passed() is not None
            return False
        return rig.answer() is not None

    assert not made(b"one")
    upper.chmod(0o2755)
    os.chown(upper, -1, 7)
    assert made(b"two")
    assert (upper / "two").stat().st_gid == 7


def test_a_directory_that_gains_thousands_of_names_stays_at_hand(rig: Rig) -> None:
    for index in range(5000):
        made = create(rig, b"new%d" % index)
        assert made is not None, index
        number, handle = made
        assert rig.ask(RELEASE, number, struct.pack("=QIIQ", handle, 0, 0, 0)) == (0, b"")
    assert lookup(rig, b"new4999") is not None
