"""What remains of a mode whose ACL cannot be kept."""

import struct

import pytest

from layerfs.union.acl import without_acl

USER_OBJ, USER, GROUP_OBJ, MASK, OTHER = 1, 2, 4, 16, 32


def acl(*entries: tuple[int, int]) -> bytes:
    """An ACL of tags and permissions."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, bits, 0xFFFFFFFF) for tag, bits in entries)


@pytest.mark.parametrize(
    ("mode", "value", "left"),
    [
        (0o4775, acl((USER_OBJ, 7), (USER, 7), (GROUP_OBJ, 5), (MASK, 7), (OTHER, 5)), 0o4755),
        (0o640, acl((USER_OBJ, 6), (USER, 7), (GROUP_OBJ, 7), (MASK, 4), (OTHER, 0)), 0o640),
        (0o760, acl((USER_OBJ, 7), (USER, 6), (GROUP_OBJ, 0), (MASK, 6), (OTHER, 0)), 0o700),
        (0o750, acl((USER_OBJ, 7), (GROUP_OBJ, 5), (OTHER, 0)), 0o750),
        (0o770, b"", 0o700),
        (0o770, acl((GROUP_OBJ, 7))[:-1], 0o700),
        (0o770, b"\1\0\0\0" + acl((GROUP_OBJ, 7))[4:], 0o700),
    ],
)
def test_nobody_may_do_more_without_the_acl(mode: int, value: bytes, left: int) -> None:
    assert without_acl(mode, value) == left
