"""Tars entry by entry: every way to write a name, a number, a hole; and every way to lie about them."""

import pytest

from layerfs.errors import Corrupt
from layerfs.oci.tar import Member, TarReader
from tests.oci.tars import (
    END,
    file,
    header,
    padded,
    pax,
    symlink,
)

ODD = b"\xff\xfe caf\xe9 \n\x01"


def members(data: bytes, step: int = 700) -> list[tuple[Member, bytes]]:
    """Read a tar that comes in small pieces."""
    reader = TarReader(data[at : at + step] for at in range(0, len(data), step))
    return [(member, b"".join(reader.data())) for member in reader]


def one(data: bytes) -> Member:
    ((member, _),) = members(data + END)
    return member


def test_names_of_any_length_and_bytes() -> None:
    long = b"n" * 150 + b"/" + ODD * 20
    gnu = header(b"././@LongLink", b"L", size=len(long) + 1) + padded(long + b"\0")
    target = header(b"././@LongLink", b"K", size=len(long) + 1) + padded(long + b"\0")
    assert one(gnu + file(b"cut")).path == long
    assert one(target + symlink(b"s", b"cut")).target == long
    assert one(pax({b"path": long}) + file(b"cut")).path == long
    assert one(pax({b"linkpath": long}) + symlink(b"s", b"cut")).target == long
    assert one(file(b"n" * 100, prefix=b"p" * 155)).path == b"p" * 155 + b"/" + b"n" * 100
    assert one(file(b"old", magic=b"ustar  \0", prefix=b"12345")).path == b"old"


def test_numbers_in_every_form() -> None:
    large = one(file(b"f", uid=3_000_000, gid=4_000_000_000, mtime=-5))
    assert (large.uid, large.gid, large.mtime_ns) == (3_000_000, 4_000_000_000, -5 * 10**9)
    records = {b"uid": b"3000000", b"gid": b"4000000000", b"mtime": b"-5.25"}
    assert one(pax(records) + file(b"f")).mtime_ns == -5_250_000_000
    assert one(pax({b"mtime": b"1.123456789999"}) + file(b"f")).mtime_ns == 1_123_456_789
    assert one(pax({b"mtime": b"", b"uid": b""}) + file(b"f", uid=4)).uid == 4
    assert one(file(b"f", mode=0o100644)).mode == 0o644
    assert one(file(b"f", late={100: b"   644 \0"})).mode == 0o644


def test_global_records_are_of_all_entries_behind_them() -> None:
    data = pax({b"uid": b"7", b"comment": b"c"}, b"g") + file(b"a") + pax({b"uid": b"8"}) + file(b"b") + file(b"c")
    assert [member.uid for member, _ in members(data + END)] == [7, 8, 7]


BROKEN = {
    "bad header in the middle": file(b"a", b"a") + b"x" * 512 + file(b"b") + END,
    "bad header at the end": file(b"a", b"a") + b"x" * 512,
    "single block of zeros in the middle": file(b"a") + bytes(512) + file(b"b") + END,
    "data that end early": file(b"a", b"a" * 5000)[:3000],
    "padding that ends early": file(b"a", b"a")[:-10],
    "header that ends early": file(b"a")[:300],
    "wrong checksum": file(b"a", raw={148: b"000001\0 "}) + END,
    "letters in a size": file(b"a", late={124: b"12x45678901\0"}) + END,
    "size below zero": header(b"a", size=-1) + END,
    "size beyond all files": header(b"a", size=1 << 90) + END,
    "PAX length too large": pax(b"99 path=a\n") + file(b"a") + END,
    "PAX length too small": pax(b"5 path=abc\n") + file(b"a") + END,
    "PAX length of nothing": pax(b"0 path=abc\n") + file(b"a") + END,
    "PAX length that is no number": pax(b"xx path=abc\n") + file(b"a") + END,
    "PAX record without a newline": pax(b"10 path=ab") + file(b"a") + END,
    "PAX record without a key": pax(b"6 =ab\n") + file(b"a") + END,
    "PAX record without a value": pax(b"7 path\n") + file(b"a") + END,
    "PAX path with a NUL": pax({b"path": b"a\0b"}) + file(b"a") + END,
    "PAX size that is no number": pax({b"size": b"-1"}) + file(b"a") + END,
    "PAX size beyond the archive": pax({b"size": b"9999"}) + file(b"a") + END,
    "PAX size beyond all files": pax({b"size": b"99999999999999999999"}) + file(b"a") + END,
    "PAX owner below zero": pax({b"uid": b"-1"}) + file(b"a") + END,
    "PAX owner beyond all": pax({b"uid": b"4294967295"}) + file(b"a") + END,
    "PAX time that is no number": pax({b"mtime": b"1e9"}) + file(b"a") + END,
    "PAX time beyond all": pax({b"mtime": b"9" * 19}) + file(b"a") + END,
    "PAX records beyond reason": header(b"x", b"x", size=1 << 30) + END,
    "long name beyond reason": header(b"x", b"L", size=1 << 30) + END,
    "PAX records for nothing": file(b"a") + pax({b"path": b"b"}) + END,
    "name that is empty": file(b"") + END,
    "name beyond reason": pax({b"path": b"a/" * 20000}) + file(b"a") + END,
    "sparse file with letters in its map": pax(
        {b"GNU.sparse.major": b"1", b"GNU.sparse.realsize": b"5", b"GNU.sparse.name": b"s"})
    + file(b"s", b"x" * 512) + END,
    "sparse file without a size": pax({b"GNU.sparse.map": b"0,1"}) + file(b"s", b"x") + END,
    "sparse file with half a map": pax({b"GNU.sparse.size": b"5", b"GNU.sparse.map": b"0"}) + file(b"s", b"x") + END,
    "sparse file with a map of millions": pax(
        {b"GNU.sparse.major": b"1", b"GNU.sparse.realsize": b"5"}) + file(b"s", padded(b"99999999\n")) + END,
}  # fmt: skip


@pytest.mark.parametrize("title", BROKEN)
def test_broken_tar_is_an_error_and_not_an_early_end(title: str) -> None:
    with pytest.raises(Corrupt):
        members(BROKEN[title])


@pytest.mark.parametrize(
    "data", [b"", END, bytes(512), file(b"a"), file(b"a") + bytes(512), file(b"a") + END + b"x" * 7]
)
def test_every_good_end_is_one(data: bytes) -> None:
    assert len(members(data)) == (len(data) > 1024 or data[:1] == b"a")
