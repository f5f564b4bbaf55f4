"""One header: numbers, names and its checksum."""

import pytest

from layerfs.errors import Corrupt
from layerfs.oci.header import number
from tests.oci.tars import header
from tests.oci.test_tar import one


def test_signed_checksum_of_old_programs() -> None:
    block = header(b"\xe9t\xe9")
    total = sum(block[:148]) + 8 * 32 + sum(block[156:]) - 2 * 256
    assert one(block[:148] + b"%06o\0 " % total + block[156:]).path == b"\xe9t\xe9"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"   644 \0", 0o644),
        (b"\0" * 8, 0),
        (b" " * 8, 0),
        (b"777\0junk", 0o777),
        (b"\x80\0\0\0\0\0\x01\0", 256),
        (b"\xff" * 8, -1),
        (b"\xff\xff\xff\xff\xff\xff\xff\xfb", -5),
    ],
)
def test_number_in_octal_or_base_256(field: bytes, value: int) -> None:
    assert number(field) == value


@pytest.mark.parametrize(
    "field", [b"0o64\0\0\0\0", b"1_0\0\0\0\0\0", b"-1\0\0\0\0\0\0", b"8\0\0\0\0\0\0\0", b"12 34\0\0\0"]
)
def test_what_is_no_number_is_refused(field: bytes) -> None:
    """Python's int() takes 0o64, 1_0 and -1."""
    with pytest.raises(Corrupt):
        number(field)
