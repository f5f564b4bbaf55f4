"""Tars entry by entry: every way to write a name, a number, a hole; and every way to lie about them."""

import os
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from layerfs.errors import Corrupt, InvalidArgument
from layerfs.oci.tar import Member, TarReader
from layerfs.oci.target import Limits
from tests.host import require
from tests.oci.tars import (
    END,
    NOW,
    apply,
    brief,
    directory,
    entry_of,
    file,
    header,
    look,
    octal,
    padded,
    pax,
    record,
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


def test_signed_checksum_of_old_programs() -> None:
    block = header(b"\xe9t\xe9")
    total = sum(block[:148]) + 8 * 32 + sum(block[156:]) - 2 * 256
    assert one(block[:148] + b"%06o\0 " % total + block[156:]).path == b"\xe9t\xe9"


def sparse_old(extents: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    pairs = [octal(offset, 12) + octal(length, 12) for offset, length in extents]
    late = {386: b"".join(pairs[:4]), 482: b"\1" if pairs[4:] else b"\0", 483: octal(size, 12)}
    blocks = []
    for at in range(4, len(pairs), 21):
        more = b"\1" if pairs[at + 21 :] else b"\0"
        blocks.append((b"".join(pairs[at : at + 21]).ljust(504, b"\0") + more).ljust(512, b"\0"))
    return header(b"s", b"S", magic=b"ustar  \0", size=len(data), late=late) + b"".join(blocks) + padded(data)


def sparse_00(extents: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    pairs = (record(b"GNU.sparse.offset", b"%d" % o) + record(b"GNU.sparse.numbytes", b"%d" % n) for o, n in extents)
    return pax(record(b"GNU.sparse.size", b"%d" % size) + b"".join(pairs)) + file(b"s", data)


def sparse_01(extents: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    text = b",".join(b"%d,%d" % pair for pair in extents)
    return pax({b"GNU.sparse.size": b"%d" % size, b"GNU.sparse.name": b"s", b"GNU.sparse.map": text}) + file(
        b"x/s", data
    )


def sparse_10(extents: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    lines = b"%d\n" % len(extents) + b"".join(b"%d\n%d\n" % pair for pair in extents)
    records = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.name": b"s"}
    return pax(records | {b"GNU.sparse.realsize": b"%d" % size}) + file(b"x/s", padded(lines) + data)


DIALECTS = [sparse_old, sparse_00, sparse_01, sparse_10]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_sparse_file_has_its_holes(dialect: "type[object]", scratch: Path) -> None:
    extents = [(4096 * 3 * number, 100) for number in range(60)]
    data = bytes(range(1, 101)) * 60
    apply(dialect(extents, 1 << 20, data) + file(b"after", b"a") + END, scratch / "t")  # type: ignore[call-arg,operator]
    found = (scratch / "t/s").read_bytes()
    wanted = bytearray(1 << 20)
    for offset, _ in extents:
        wanted[offset : offset + 100] = data[:100]
    assert found == bytes(wanted)
    assert (scratch / "t/s").stat().st_blocks * 512 < 1 << 19
    assert (scratch / "t/after").read_bytes() == b"a"


LYING_MAPS = {
    "overlap": [(0, 60), (50, 40)],
    "outside": [(1 << 20, 100)],
    "backwards": [(4096, 50), (0, 50)],
    "less data": [(0, 200)],
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("lie", LYING_MAPS)
def test_sparse_map_that_lies_is_refused(dialect: "type[object]", lie: str) -> None:
    with pytest.raises(Corrupt):
        members(dialect(LYING_MAPS[lie], 1 << 20, b"d" * 100) + END)  # type: ignore[call-arg,operator]


@pytest.mark.parametrize(
    "style", ["--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"]
)
def test_sparse_file_of_gnu_tar(style: str, scratch: Path) -> None:
    with (scratch / "holes").open("wb") as out:
        for at in range(40):
            out.seek(at * 100_000)
            out.write(b"%d" % at)
        out.truncate(5_000_000)
    format_ = [] if style.startswith("--format") else ["--format=pax"]
    made = subprocess.run(
        ["tar", "-C", scratch, "-cS", *format_, style, "holes"], capture_output=True, check=True
    ).stdout
    apply(made, scratch / "t")
    assert (scratch / "t/holes").read_bytes() == (scratch / "holes").read_bytes()
    assert (scratch / "t/holes").stat().st_mtime_ns // 10**9 == (scratch / "holes").stat().st_mtime_ns // 10**9


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


def test_everything_of_an_entry_arrives(scratch: Path) -> None:
    """Owner, mode, times, xattrs and devices, whatever the order in which they must be set."""
    require("root")
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # linux/capability.h, revision 2
    xattrs = {
        b"SCHILY.xattr.security.capability": capability,
        b"SCHILY.xattr.user.odd\xe9": b"\0\xff=\n",
        b"mtime": b"5.000000007",
    }
    entries = [
        pax(xattrs), file(b"f", b"data", mode=0o4755, uid=3_000_000, gid=4_000_000_000),
        pax({b"SCHILY.xattr.user.d": b"", b"mtime": b"-7.5"}),
        directory(b"d", mode=0o2500, uid=1, gid=2), file(b"d/in", b"1"),
        header(b"char", b"3", major=1, minor=3, mode=0o622), header(b"block", b"4", major=7, minor=0x12345, mode=0o60),
        header(b"fifo", b"6", mode=0o640, uid=9), symlink(b"s", b"\xff\xfe", uid=5, gid=6), file(ODD, b""), END,
    ]  # fmt: skip
    apply(b"".join(entries), scratch / "t")
    found = look(scratch / "t")
    assert (found["f"].mode, found["f"].owner, found["f"].mtime_ns) == (
        0o4755,
        (3_000_000, 4_000_000_000),
        5_000_000_007,
    )
    assert dict(found["f"].xattrs) == {"security.capability": capability, os.fsdecode(b"user.odd\xe9"): b"\0\xff=\n"}
    assert (found["d"].mode, found["d"].owner, found["d"].mtime_ns) == (0o2500, (1, 2), -7_500_000_000)
    assert found["d"].xattrs == (("user.d", b""),)
    assert (found["d/in"].owner, found["d/in"].mtime_ns) == ((0, 0), NOW * 10**9)
    assert [found[n].kind for n in ("char", "block", "fifo", "s")] == ["c", "b", "p", "l"]
    assert [found[n].mode for n in ("char", "block", "fifo")] == [0o622, 0o60, 0o640]
    assert (found["char"].rdev, found["block"].rdev) == (os.makedev(1, 3), os.makedev(7, 0x12345))
    assert (found["s"].content, found["s"].owner, found["s"].mtime_ns) == (b"\xff\xfe", (5, 6), NOW * 10**9)
    assert os.fsdecode(ODD) in found


@pytest.mark.parametrize(
    "entry",
    [
        header(b"dev", b"3"),
        pax({b"SCHILY.xattr.trusted.overlay.opaque": b"y"}) + directory(b"d"),
        pax({b"SCHILY.xattr.user.overlay.whiteout": b"y"}) + file(b"f"),
        pax({b"SCHILY.xattr.trusted.overlay.redirect": b"/etc"}) + directory(b"d"),
        pax({b"SCHILY.xattr.user.containers.override_stat": b"0:0:4755"}) + file(b"f"),
        pax({b"SCHILY.xattr.user.overlay.metacopy": b""}) + file(b"f"),
        pax({b"SCHILY.xattr.user.overlay.opaque": b"y"}) + directory(b"./"),
    ],
)
def test_mark_of_an_overlay_is_refused_by_name(entry: bytes, scratch: Path) -> None:
    with pytest.raises(Corrupt, match=r"would take for"):
        apply(entry + END, scratch / "t")
    assert brief(scratch / "t") == {}


def test_mark_is_content_in_a_plain_tree(scratch: Path) -> None:
    require("root")
    from layerfs.oci.target import Form

    apply(header(b"dev", b"3") + END, scratch / "t", form=Form.PLAIN)
    assert stat.S_ISCHR((scratch / "t/dev").lstat().st_mode)


def test_limits_end_a_bomb(scratch: Path) -> None:
    with pytest.raises(InvalidArgument, match="more than 10 entries"):
        apply(b"".join(file(b"%d" % n) for n in range(11)) + END, scratch / "a", limits=Limits(entries=10))
    with pytest.raises(InvalidArgument, match="more than 9999 bytes"):
        apply(file(b"f", bytes(20000)) + END, scratch / "b", limits=Limits(size=9999))
    with pytest.raises(InvalidArgument, match="more than 9999 bytes"):
        apply(file(b"f") + END + bytes(20000), scratch / "c", limits=Limits(size=9999))
    huge = {b"GNU.sparse.major": b"1", b"GNU.sparse.realsize": b"%d" % (1 << 50), b"GNU.sparse.name": b"s"}
    with pytest.raises(InvalidArgument, match="files have more than"):
        apply(pax(huge) + file(b"s", padded(b"0\n")) + END, scratch / "d")


def test_directory_mode_and_times_come_last(scratch: Path) -> None:
    apply(directory(b"d", mode=0o500) + directory(b"d/e", mode=0) + file(b"d/e/f", b"x") + END, scratch / "t")
    for name, mode in (("d", 0o500), ("d/e", 0)):
        found = entry_of(scratch / "t" / name)
        assert (found.mode, found.mtime_ns) == (mode, NOW * 10**9)
