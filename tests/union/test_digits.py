"""Numbers that strangers write."""

import pytest

from layerfs.union.digits import MAX_ID, decimal, octal


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"0", 0), (b"00", 0), (b"07", 7), (b"4294967294", MAX_ID), (b"4294967295", None), (b"9" * 30, None),
        (b"1" * 5000, None), (b"", None), (b"-1", None), (b"+1", None), (b"1_0", None), (b" 1", None), (b"1\n", None),
        (b"\xd9\xa1", None), (b"0x1", None), (b"1\0", None),
    ],
)  # fmt: skip
def test_decimal(text: bytes, expected: int | None) -> None:
    assert decimal(text, MAX_ID) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"0755", 0o755), (b"7777", 0o7777), (b"10000", None), (b"8", None), (b"", None), (b"7" * 40, None)],
)
def test_octal(text: bytes, expected: int | None) -> None:
    assert octal(text, 0o7777) == expected
