"""What stat(2) does not tell of a file."""

import errno
import os
import struct
import time
from pathlib import Path

import pytest

from layerfs.sys import file_attr
from layerfs.sys.file_attr import FSGETXATTR, GETFLAGS, NOATIME, SETFLAGS


def test_a_file_is_born_when_it_is_made(scratch: Path) -> None:
    before = time.time_ns()
    (scratch / "f").touch()
    os.utime(scratch / "f", (1, 1))
    fd = os.open(scratch / "f", os.O_PATH)
    born = file_attr.birth_time(fd)
    os.close(fd)
    assert born is not None and before - 10**9 < born < time.time_ns() + 10**9
    fd = os.open("/proc/self", os.O_RDONLY)
    assert file_attr.birth_time(fd) is None
    os.close(fd)


def test_flags_are_read_and_written(scratch: Path) -> None:
    (scratch / "f").touch()
    (scratch / "d").mkdir()
    at = os.open(scratch / "d", os.O_PATH)
    descriptors = [os.open(scratch / "f", os.O_RDONLY), file_attr.open_directory(at)]
    for fd in descriptors:
        (before,) = struct.unpack("=I", file_attr.read(fd, GETFLAGS))
        file_attr.write(fd, SETFLAGS, struct.pack("=I", before | NOATIME))
        assert struct.unpack("=I", file_attr.read(fd, GETFLAGS)) == (before | NOATIME,)
        assert struct.unpack_from("=I", file_attr.read(fd, FSGETXATTR))[0] & 0x40  # FS_XFLAG_NOATIME
    for fd in [at, *descriptors]:
        os.close(fd)


def test_a_filesystem_without_flags_says_so() -> None:
    fd = os.open("/proc/version", os.O_RDONLY)
    with pytest.raises(OSError) as caught:
        file_attr.read(fd, GETFLAGS)
    assert caught.value.errno == errno.ENOTTY
    os.close(fd)
