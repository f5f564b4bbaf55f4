"""Messages as the kernel has them: sizes from fuse.h, and what bounds a stranger's values."""

import errno
import os
from pathlib import Path

import pytest

from layerfs.fuse import wire
from layerfs.fuse.wire import Opcode

SIZES = {
    "REQUEST_HEADER": 40, "REPLY_HEADER": 16, "INIT_REPLY": 64, "ATTRIBUTES": 88, "ENTRY": 40, "ATTRIBUTES_REPLY": 16,
    "OPEN_REPLY": 16, "DIRENT": 24, "FORGET_ONE": 16, "STATFS_REPLY": 80, "XATTR_REQUEST": 8, "STORE": 24,
    "INVAL_INODE": 24,
}  # fmt: skip


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_structures_are_as_long_as_the_kernels(name: str, size: int) -> None:
    assert getattr(wire, name).size == size


def test_a_request_is_what_a_call_made() -> None:
    assert wire.request(wire.call(Opcode.LOOKUP, 3, b"name"))[:4] == (Opcode.LOOKUP, 3, 0, b"name")


def test_attributes_carry_times_before_the_epoch(tmp_path: Path) -> None:
    os.utime(tmp_path, ns=(-1, -1_500_000_000))
    fields = wire.ATTRIBUTES.unpack(wire.attributes(9, os.stat(tmp_path)))
    assert (fields[0], fields[3:5], fields[6:8]) == (9, (-1, -2), (999_999_999, 500_000_000))


def test_entries_are_padded_to_eight_bytes() -> None:
    for length in range(1, 20):
        entry = wire.dirent(1, 2, b"n" * length, 0o100644)
        assert len(entry) % 8 == 0 and len(entry) == wire.dirent_size(b"n" * length, plus=False)


def test_what_the_kernel_would_not_take_is_an_errno() -> None:
    with pytest.raises(OSError) as long:
        wire.target(b"x" * 4096)
    assert long.value.errno == errno.ENAMETOOLONG
    assert wire.target(b"x" * 4095) == b"x" * 4095
    with pytest.raises(OSError) as large:
        wire.xattr(3, b"four")
    assert large.value.errno == errno.ERANGE
    assert [wire.errno_of(code) for code in (None, 0, 1, 511, 512, 524, -1)] == [5, 5, 1, 511, 5, 5, 5]
