"""What is read of the bodies of requests."""

import errno
import time

import pytest

from layerfs.fuse import bodies

NOW, ATIME_NOW, MTIME_NOW = 1 << 62, 1 << 7, 1 << 8


def setattr_body(valid: int, atime: int = 0, mtime: int = 0) -> bytes:
    return bodies.SETATTR.pack(valid, 0, 9, 77, 0, atime, mtime, 0, 5, 6, 0, 0o644, 0, 1000, 1001, 0)


def test_names_end_with_a_nul_and_follow_what_is_before_them() -> None:
    assert bodies.name(b"name\0") == b"name"
    assert bodies.name(b"12345678name\0", 8) == b"name"
    assert bodies.two_names(b"link\0to/target\0") == (b"link", b"to/target")
    assert bodies.two_names(b"12345678old\0new\0", 8) == (b"old", b"new")


@pytest.mark.parametrize(
    ("bit", "field"),
    list(enumerate(["mode", "uid", "gid", "size", "atime", "mtime", "", "atime", "mtime", "", "ctime"])),
)
def test_each_bit_of_setattr_sets_one_field(bit: int, field: str) -> None:
    found = bodies.setattr_of(setattr_body(1 << bit))
    assert {name for name in found._fields if name.startswith("update_") and getattr(found, name)} == (
        {f"update_{field}"} if field else set()
    )


def test_setattr_has_times_to_the_nanosecond_also_before_1970() -> None:
    found = bodies.setattr_of(setattr_body(0xFF, 3, (1 << 64) - 2))
    assert (found.st_mode, found.st_uid, found.st_gid, found.st_size) == (0o644, 1000, 1001, 77)
    assert (found.st_atime_ns, found.st_mtime_ns) == (3_000_000_005, -2_000_000_000 + 6)


def test_a_time_that_is_to_be_now_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: NOW)
    found = bodies.setattr_of(setattr_body(ATIME_NOW | MTIME_NOW))
    assert (found.st_atime_ns, found.st_mtime_ns) == (NOW, NOW)
    found = bodies.setattr_of(setattr_body(ATIME_NOW | 1 << 4))
    assert found.st_atime_ns == 5  # as pyfuse3 has it: a time that is told goes first


def test_an_xattr_comes_with_its_flags_and_may_hold_anything() -> None:
    assert bodies.setxattr_of(bodies.SETXATTR.pack(3, 2) + b"user.x\0a\0b") == (b"user.x", b"a\0b", 2)


def test_listed_xattrs_fit_or_their_length_is_told() -> None:
    assert bodies.xattr_names(0, [b"user.a", b"b"]) == b"\x09\0\0\0\0\0\0\0"
    assert bodies.xattr_names(9, [b"user.a", b"b"]) == b"user.a\0b\0"
    assert bodies.xattr_names(9, []) == b""
    with pytest.raises(OSError) as failure:
        bodies.xattr_names(8, [b"user.a", b"b"])
    assert failure.value.errno == errno.ERANGE


def test_data_are_those_that_came() -> None:
    head = bodies.WRITE.pack(7, 4096, 4, 0, 0, 0, 0)
    handle, offset, data = bodies.written(head + b"data")
    assert (handle, offset, bytes(data)) == (7, 4096, b"data")
    with pytest.raises(OSError):
        bodies.written(head + b"dat")


@pytest.mark.parametrize(("command", "asks"), [(0x5401, True), (0x80086601, False)])
def test_a_question_for_a_terminal_is_known(command: int, asks: bool) -> None:
    assert bodies.is_for_terminal(bodies.IOCTL.pack(1, 0, command, 0, 0, 0)) == asks
