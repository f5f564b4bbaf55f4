"""How the lane opens and reads files (layerfs/lane/answer.c); sockets stand for the device."""

import os
import struct
from pathlib import Path

import pytest

from tests.lane.rig import HOME, OPEN, READ, RELEASE, Rig, lookup


def opened(rig: Rig, number: int, flags: int = os.O_RDONLY, uid: int = 0) -> int | None:
    found = rig.ask(OPEN, number, struct.pack("=II", flags, 0), uid)
    return None if found is None else int.from_bytes(found[1][:8], "little")


def test_an_open_file_is_read_and_its_descriptor_goes_with_the_last_release(rig: Rig, home: Path) -> None:
    number, _ = lookup(rig, b"file") or (0, 0)
    assert opened(rig, number) == number
    assert opened(rig, number, uid=5) == number | 1 << 63
    assert rig.ask(READ, number, struct.pack("=QQIIQII", number, 3, 100, 0, 0, 0, 0)) == (0, b"tent")
    for _ in range(2):
        assert rig.ask(RELEASE, number, bytes(24)) == (0, b"")
    assert rig.ask(RELEASE, number, bytes(24)) is None
    assert (taken := rig.lane.take(number)) is not None and (taken.opens, taken.fd, taken.stored) == (0, -1, True)


def read(rig: Rig, number: int) -> tuple[int, bytes] | None:
    return rig.ask(READ, number, struct.pack("=QQIIQII", number, 0, 100, 0, 0, 0, 0))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_file_is_opened_again_without_a_descriptor_until_its_data_are_asked_for(rig: Rig, home: Path) -> None:
    number, _ = lookup(rig, b"file") or (0, 0)
    opened(rig, number)
    rig.ask(RELEASE, number, bytes(24))
    before = descriptors()
    assert opened(rig, number) == number and descriptors() == before
    assert read(rig, number) == (0, b"content") and descriptors() == before + 1
    rig.ask(RELEASE, number, bytes(24))
    assert descriptors() == before
    opened(rig, number)
    taken = rig.lane.take(number)
    assert taken is not None and (taken.opens, taken.fd) == (1, -1)


def test_a_file_that_was_exchanged_after_it_was_opened_again_is_for_others(rig: Rig, home: Path) -> None:
    number, _ = lookup(rig, b"file") or (0, 0)
    opened(rig, number)
    rig.ask(RELEASE, number, bytes(24))
    opened(rig, number)
    (home / "new").write_bytes(b"another")
    (home / "new").rename(home / "file")
    assert read(rig, number) is None
    assert opened(rig, number) is None


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC])
def test_who_opens_to_write_is_for_others(rig: Rig, flags: int) -> None:
    number, _ = lookup(rig, b"file") or (0, 0)
    assert opened(rig, number, flags) is None


def test_a_file_that_was_exchanged_or_changed_owner_or_mode_is_not_opened(rig: Rig, home: Path) -> None:
    number, _ = lookup(rig, b"file") or (0, 0)
    (home / "file").chmod(0o600)
    assert opened(rig, number) is None
    lookup(rig, b"file")
    assert opened(rig, number) == number


def test_a_file_of_holes_is_for_others_who_know_what_it_stands_for(rig: Rig, home: Path) -> None:
    os.truncate(home / "file", 1 << 20)
    number, _ = lookup(rig, b"file") or (0, 0)
    assert opened(rig, number) is None


def test_an_open_file_is_taken_over_with_its_descriptor(rig: Rig, home: Path) -> None:
    number, _ = lookup(rig, b"file") or (0, 0)
    opened(rig, number)
    opened(rig, number)
    taken = rig.lane.take(number)
    assert taken is not None and taken.opens == 2
    assert os.pread(taken.fd, 100, 0) == b"content"
    os.close(taken.fd)
    assert rig.ask(READ, number, struct.pack("=QQIIQII", number, 0, 100, 0, 0, 0, 0)) is None


def test_no_more_files_are_open_than_were_allowed(home: Path) -> None:
    with Rig(files=1) as rig:
        (home / "other").write_bytes(b"x")
        rig.hand_over(HOME, home, [b"file", b"other"])
        numbers = [(lookup(rig, name) or (0, 0))[0] for name in (b"file", b"other")]
        assert opened(rig, numbers[0]) is not None
        assert opened(rig, numbers[1]) is None
        rig.ask(RELEASE, numbers[0], bytes(24))
        assert opened(rig, numbers[1]) is not None
