"""What the lane answers by itself, what it passes on, and what it gives up; sockets stand for the device."""

import errno
import os
import struct
from pathlib import Path

import pytest

from layerfs.lane.events import LaneEvent
from layerfs.lane.lane import ASK, GONE
from tests.lane.rig import (
    BATCH_FORGET,
    FORGET,
    GETATTR,
    GETXATTR,
    HEADER,
    HOME,
    LOOKUP,
    READDIR,
    READDIRPLUS,
    READLINK,
    REPLY,
    WRITE,
    Rig,
    dirents,
    lookup,
    number_of,
)  # fmt: skip


def test_a_plain_file_and_a_link_are_answered_and_counted(rig: Rig, home: Path) -> None:
    assert lookup(rig, b"file") == (number_of(home / "file"), 7) == lookup(rig, b"file")
    assert lookup(rig, b"link") == (number_of(home / "link"), 6)
    taken = rig.lane.take(number_of(home / "file"))
    assert taken is not None
    st = (home / "file").stat()
    assert (taken.parent, taken.name, taken.lookups, taken.opens, taken.fd) == (HOME, b"file", 2, 0, -1)
    assert (taken.device, taken.number, taken.mode) == (st.st_dev, st.st_ino, st.st_mode)
    assert rig.lane.take(number_of(home / "file")) is None


def test_an_absent_name_is_answered_in_a_whole_directory_only(rig: Rig) -> None:
    assert lookup(rig, b"nothing") == (0, 0)
    assert rig.ask(LOOKUP, HOME + 1, b"nothing\0") is None


def test_an_empty_file_is_answered_if_nothing_marks_it(rig: Rig, home: Path) -> None:
    os.removexattr(home / "marked", "user.mark")
    assert lookup(rig, b"marked") == (number_of(home / "marked"), 0)
    os.setxattr(home / "marked", "user.mark", b"")
    assert rig.ask(GETATTR, number_of(home / "marked"), bytes(16)) is None


@pytest.mark.parametrize("name", [b"marked", b"sub", b".", b"..", b"x" * 256, b"a\0b"])
def test_what_needs_more_than_a_stat_is_for_others(rig: Rig, name: bytes) -> None:
    assert lookup(rig, name) is None


def test_a_file_with_two_names_is_for_others(rig: Rig, home: Path) -> None:
    os.link(home / "file", home / "again")
    assert lookup(rig, b"file") is None


def test_a_number_that_others_claim_is_theirs_until_the_last_claim_is_taken_back(rig: Rig, home: Path) -> None:
    number = number_of(home / "file")
    rig.lane.claim(number)
    rig.lane.claim(number)
    rig.lane.disclaim(number)
    assert lookup(rig, b"file") is None
    rig.lane.disclaim(number)
    assert lookup(rig, b"file") == (number, 7)
    with pytest.raises(FileExistsError):
        rig.lane.claim(number)


def test_a_name_that_is_withdrawn_is_asked_elsewhere_and_one_that_is_gone_is_absent(rig: Rig) -> None:
    for name in (b"file", b"new"):
        assert rig.lane.change(HOME, name, ASK)
        assert lookup(rig, name) is None
        assert rig.lane.change(HOME, name, GONE)
        assert lookup(rig, name) == (0, 0)


def test_too_many_new_names_are_refused(rig: Rig) -> None:
    told = [rig.lane.change(HOME, b"new-%d" % number, ASK) for number in range(2000)]
    assert told == sorted(told, reverse=True) and not told[-1] and told[1000]
    assert lookup(rig, b"new-0") is None


def test_a_share_that_is_closed_is_not_used(rig: Rig, home: Path) -> None:
    fd = rig.fds[0]
    rig.lane.share(HOME, 0, -1)
    assert lookup(rig, b"file") is None
    rig.lane.share(HOME, 0, fd)
    assert lookup(rig, b"file") == (number_of(home / "file"), 7)


def test_files_outlive_their_directory_until_they_are_forgotten(rig: Rig, home: Path) -> None:
    number, _ = lookup(rig, b"file") or (0, 0)
    assert rig.lane.children(HOME) == 1
    rig.lane.drop(HOME)
    assert rig.ask(GETATTR, number, bytes(16)) is None
    assert not rig.lane.directory(HOME, 1, [], [], [])
    assert rig.lane.emptied() == 0
    rig.request(FORGET, number, struct.pack("=Q", 1))
    rig.step()
    assert (rig.lane.emptied(), rig.lane.emptied()) == (HOME, 0)
    assert rig.lane.directory(HOME, 1, [], [], [])


def test_forgets_are_counted_and_a_batch_is_split(rig: Rig, home: Path) -> None:
    number, other = number_of(home / "file"), number_of(home / "link")
    for name in (b"file", b"file", b"link"):
        lookup(rig, name)
    batch = struct.pack("=IIQQQQQQ", 3, 0, number, 1, 4711, 6, other, 1)
    rig.request(BATCH_FORGET, 0, batch)
    assert rig.step() == LaneEvent.REQUEST
    assert (rig.passed() or b"")[40:] == struct.pack("=IIQQ", 1, 0, 4711, 6)
    assert rig.lane.take(other) is None
    assert (taken := rig.lane.take(number)) is not None and taken.lookups == 1


def test_attributes_are_those_of_now_unless_the_name_leads_elsewhere(rig: Rig, home: Path) -> None:
    number, _ = lookup(rig, b"file") or (0, 0)
    (home / "file").chmod(0o640)
    error, body = rig.ask(GETATTR, number, bytes(16)) or (-1, b"")
    assert error == 0 and struct.unpack_from("=I", body, 16 + 60)[0] & 0o777 == 0o640
    (home / "new").write_bytes(b"other")
    (home / "new").rename(home / "file")
    assert rig.ask(GETATTR, number, bytes(16)) is None


def test_a_link_is_read(rig: Rig) -> None:
    number, _ = lookup(rig, b"link") or (0, 0)
    assert rig.ask(READLINK, number) == (0, b"target")
    assert rig.ask(READLINK, number + 1) is None


def listed(rig: Rig, opcode: int, offset: int, handle: int = 0, size: int = 4096) -> bytes | None:
    found = rig.ask(opcode, HOME, struct.pack("=QQIIQII", handle, offset, size, 0, 0, 0, 0))
    return None if found is None else found[1]


def test_a_directory_is_listed_up_to_what_is_for_others(rig: Rig, home: Path) -> None:
    names = dirents(listed(rig, READDIRPLUS, 0) or b"", plus=True)
    assert names == [
        (0, HOME, 1, b"."),
        (0, 1, 2, b".."),
        (number_of(home / "file"), number_of(home / "file"), 3, b"file"),
        (number_of(home / "link"), number_of(home / "link"), 4, b"link"),
    ]
    assert listed(rig, READDIRPLUS, 4) is None, "an empty file may stand for a device"
    assert dirents(listed(rig, READDIR, 5) or b"", plus=False) == [(0, number_of(home / "sub"), 6, b"sub")]
    assert listed(rig, READDIR, 6) == b""
    assert listed(rig, READDIR, 7) is None
    assert (taken := rig.lane.take(number_of(home / "file"))) is not None and taken.lookups == 1


def test_a_listing_that_has_no_room_is_for_others(rig: Rig) -> None:
    assert listed(rig, READDIRPLUS, 0, size=100) is None
    assert dirents(listed(rig, READDIRPLUS, 0, size=160) or b"", plus=True) == [(0, HOME, 1, b".")]


def test_a_directory_is_listed_as_it_was_handed_over_or_by_others(rig: Rig) -> None:
    assert listed(rig, READDIR, 0) is not None
    assert listed(rig, READDIR, 0, handle=9) is not None, "cookies are the same for all"
    rig.lane.relist(HOME)
    assert listed(rig, READDIR, 0) is None


def test_requests_that_were_held_go_first_and_answers_go_to_the_kernel(rig: Rig) -> None:
    rig.lane.hold([b"a message of no request", b"another one"])
    for message in (b"a message of no request", b"another one"):
        assert rig.lane.wait(-1, rig.libfuse.fileno(), 1000, spin=False) == LaneEvent.OTHER, "somebody waits for a job"
        assert rig.step() == LaneEvent.REQUEST
        assert rig.passed() == message
    unique = rig.request(99, HOME)
    assert rig.step() == LaneEvent.REQUEST
    rig.passed()
    rig.libfuse.send(REPLY.pack(20, 0, unique) + b"body")
    rig.step()
    assert rig.answer() == (unique, 0, b"body")


def test_without_a_pair_all_that_is_for_others_is_handed_out(home: Path) -> None:
    with Rig(pair=False) as rig:
        rig.hand_over(HOME, home, [b"file"])
        number, _ = lookup(rig, b"file") or (0, 0)
        assert rig.lane.any() == number and rig.lane.met == 1
        for body in (struct.pack("=QQIIQII", 5, 0, 4, 0, 0, 0, 0) + b"data", b""):
            rig.request(WRITE, HOME, body)
            assert not body or rig.step() == LaneEvent.WRITE  # whoever waits again leaves it
            assert rig.step() == LaneEvent.RAW
            assert rig.lane.raw()[HEADER.size :] == body
        rig.lane.set_pair(rig.ours.fileno())
        rig.request(99, HOME)
        assert rig.step() == LaneEvent.REQUEST and rig.passed() is not None
        rig.request(FORGET, number, struct.pack("=Q", 1))
        assert rig.step() == LaneEvent.NOTHING and rig.lane.any() == 0


def test_a_request_for_others_waits_while_somebody_waits_for_a_job(rig: Rig) -> None:
    rig.request(99, HOME)
    assert rig.lane.wait(-1, rig.libfuse.fileno(), 1000, spin=False) == LaneEvent.OTHER
    assert rig.passed() is None
    assert rig.step() == LaneEvent.REQUEST
    assert rig.passed() is not None


def test_the_end_of_the_mount_is_an_error(rig: Rig) -> None:
    rig.kernel.close()
    with pytest.raises(OSError) as failure:
        rig.step()
    assert failure.value.errno == 19


def test_a_request_that_libfuse_does_not_serve_is_handed_out_and_not_put_on_the_pair(rig: Rig) -> None:
    rig.lane.set_raw([46])
    try:
        rig.request(46, 5, bytes(24))
        assert rig.lane.wait(-1, rig.libfuse.fileno(), 0, spin=False) == LaneEvent.OTHER  # a job is waited for first
        assert rig.step() == LaneEvent.RAW
        message = rig.lane.raw()
        assert message[4:8] == struct.pack("=I", 46) and len(message) == 64
        assert rig.passed() is None and rig.step() == LaneEvent.NOTHING
    finally:
        rig.lane.set_raw([])


def test_a_directory_shows_what_its_top_share_shows_while_mode_and_owner_stay(rig: Rig, home: Path) -> None:
    def shown() -> tuple[int, int] | None:
        found = rig.ask(GETATTR, HOME, bytes(16))
        if found is None:
            return None
        mode, links = struct.unpack_from("=II", found[1], 16 + 60)
        return mode, links

    st = home.stat()
    assert shown() is None
    rig.lane.top(HOME, 0, single=True, mode=st.st_mode, uid=st.st_uid, gid=st.st_gid)
    assert shown() == (st.st_mode, st.st_nlink)
    rig.lane.top(HOME, 0, single=False, mode=st.st_mode, uid=st.st_uid, gid=st.st_gid)
    assert shown() == (st.st_mode, 1)
    home.chmod(0o711)
    assert shown() is None
    rig.lane.top(HOME, 0, single=True, mode=home.stat().st_mode, uid=st.st_uid, gid=st.st_gid)
    assert shown() == (home.stat().st_mode, st.st_nlink)
    rig.lane.top(HOME, 7, single=True, mode=st.st_mode, uid=st.st_uid, gid=st.st_gid)
    assert shown() is None
    rig.lane.top(HOME, 0, single=True, mode=home.stat().st_mode, uid=st.st_uid, gid=st.st_gid)
    rig.lane.share(HOME, 0, -1)
    assert shown() is None


@pytest.mark.parametrize(
    ("attribute", "answered"),
    [
        (b"security.capability", True), (b"user.word", True), (b"user.set", False), (b"user.overlay.opaque", False),
        (b"user.", False), (b"trusted.overlay.opaque", False), (b"system.posix_acl_access", False), (b"", False),
    ],
)  # fmt: skip
def test_an_attribute_that_a_file_has_not_is_answered(rig: Rig, home: Path, attribute: bytes, answered: bool) -> None:
    os.setxattr(home / "file", "user.set", b"value")
    number, _ = lookup(rig, b"file") or (0, 0)
    told = rig.ask(GETXATTR, number, struct.pack("=II", 20, 0) + attribute + b"\0")
    assert told == ((errno.ENODATA, b"") if answered else None)


def test_answers_that_nobody_awaits_are_given_to_the_kernel_too(rig: Rig) -> None:
    """An answer to an INTERRUPT was counted as that of the request before, which then was never given."""
    unique = rig.request(99, HOME)
    assert rig.step() == LaneEvent.REQUEST and rig.passed() is not None
    rig.libfuse.send(REPLY.pack(16, -errno.EAGAIN, unique | 1))
    rig.step()
    assert rig.answer() == (unique | 1, errno.EAGAIN, b"")
    rig.libfuse.send(REPLY.pack(20, 0, unique) + b"body")
    rig.step()
    assert rig.answer() == (unique, 0, b"body")
    rig.libfuse.send(REPLY.pack(16, 0, 4710))
    rig.step()
    assert rig.answer() == (4710, 0, b"")


def test_a_device_that_is_none_of_fuse_has_no_ring_and_serves_on(rig: Rig) -> None:
    assert not rig.lane.open_ring(1 << 18)
    assert (rig.lane.has_ring, rig.lane.epoll, rig.lane.met_on_ring) == (False, -1, 0)
    assert not rig.lane.register_ring()
    assert lookup(rig, b"file") is not None


def test_a_reply_of_others_goes_where_its_request_came_from(rig: Rig) -> None:
    unique = rig.request(99, HOME)
    assert rig.step() == LaneEvent.REQUEST and rig.passed() is not None
    rig.lane.reply(unique, 0, memoryview(b"body"))
    assert rig.answer() == (unique, 0, b"body")
    rig.lane.reply(unique, errno.EIO)
    assert rig.answer() == (unique, errno.EIO, b"")


def test_who_cannot_sleep_in_a_wait_is_told_when_there_is_something(rig: Rig) -> None:
    watched = rig.lane.watched()
    assert watched.poll(0) == []
    rig.request(99, HOME)
    assert [fd for fd, _ in watched.poll(0)] == [rig.device.fileno()]
    assert rig.lane.watched() is watched
