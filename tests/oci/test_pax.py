"""PAX records: their lengths, times and numbers."""

import pytest

from layerfs.errors import Corrupt
from layerfs.oci.pax import decimal, nanoseconds, parse_records
from tests.oci.tars import record


def test_records_keep_order_and_bytes() -> None:
    data = record(b"a", b"=\n\0\xff") + record(b"b", b"") + record(b"a", b"x" * 95)
    assert parse_records(data) == [(b"a", b"=\n\0\xff"), (b"b", b""), (b"a", b"x" * 95)]


@pytest.mark.parametrize(
    "data", [b"x", b"5 a=b", b"6 a=bb", b"07 a=b\n\n", b"-6 a=b\n", b"4 a=\n", b"1 \n", b"6  a=\nx", b"\0" * 9]
)
def test_length_that_lies_is_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        parse_records(data)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"0", 0),
        (b"-0.5", -500_000_000),
        (b"12.000000001", 12_000_000_001),
        (b"5.", 5 * 10**9),
        (b"1.0000000019", 10**9 + 1),
    ],
)
def test_time_to_the_nanosecond(text: bytes, value: int) -> None:
    assert nanoseconds(text) == value


@pytest.mark.parametrize("text", [b"", b"1e5", b"nan", b"+1", b"1.2.3", b".5", b"9" * 12, b"1" * 5000, b" 1"])
def test_what_is_no_time_is_refused(text: bytes) -> None:
    with pytest.raises(Corrupt):
        nanoseconds(text)


@pytest.mark.parametrize("text", [b"", b"-1", b"+1", b"0x1", b"1_0", b"1" * 5000])
def test_what_is_no_number_is_refused(text: bytes) -> None:
    with pytest.raises(Corrupt):
        decimal(text)
