"""Tars of our own: other programs read them, and the same entries give the same bytes."""

import io
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from layerfs.oci.tar import HARD_LINK, Member, TarReader
from layerfs.oci.write import Item, Style, record, write_tar

NAMES = [
    b"short", b"n" * 100, b"p" * 155 + b"/" + b"n" * 100, b"p" * 154 + b"/" + b"n" * 101, b"n" * 101,
    b"d/" * 120 + b"x",
    b"\xff\xfe", b"\xc3\xa9" * 80, b"a\nb", b"x" * 4000,
]  # fmt: skip


def written(items: list[Item], style: Style | None = None) -> bytes:
    out = bytearray()
    size = write_tar(items, out.extend, style or Style())
    assert size == len(out)
    return bytes(out)


def a_file(path: bytes, data: bytes = b"", **fields: object) -> Item:
    member = Member(path, stat.S_IFREG, 0o644, 0, 0, 0, size=len(data))
    for key, value in fields.items():
        setattr(member, key, value)
    return Item(member, lambda: iter([memoryview(data)]))


def test_what_is_written_is_read_again() -> None:
    members = [
        Member(b"", stat.S_IFDIR, 0o1777, 4_000_000_000, 3_000_000, -1_500_000_001),
        *(Member(name, stat.S_IFREG, 0o4755, 1, 2, 10**18 + 1, xattrs={b"user.\xff": b"\0=\n"}) for name in NAMES),
        *(Member(b"s%d" % n, stat.S_IFLNK, 0o777, 0, 0, 0, target=name) for n, name in enumerate(NAMES)),
        *(Member(b"l%d" % n, HARD_LINK, 0o644, 0, 0, 0, target=name) for n, name in enumerate(NAMES)),
        Member(b"c", stat.S_IFCHR, 0o600, 0, 0, 0, major=4095, minor=1048575),
        Member(b"p", stat.S_IFIFO, 0, 0, 0, 1 << 40),
        Member(b"d" * 120, stat.S_IFDIR, 0o700, 0, 0, 5),
    ]
    found = list(TarReader([written([Item(member) for member in members])]))
    for member in found:
        member.path = member.path.removesuffix(b"/").removeprefix(b".")
    assert found == members


@pytest.mark.parametrize("exact", [True, False])
def test_gnu_tar_and_tarfile_agree(exact: bool, scratch: Path) -> None:
    items = [a_file(name, b"data", mtime_ns=1_700_000_000_500_000_000, uid=1 << 21) for name in NAMES]
    data = written(items, Style(exact))
    (scratch / "t.tar").write_bytes(data)
    listed = subprocess.run(["tar", "-tf", scratch / "t.tar", "--null", "--quoting-style=literal"], capture_output=True)
    assert (listed.returncode, listed.stderr) == (0, b"")
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as archive:
        read = [(i.name.encode("utf-8", "surrogateescape"), i.size, i.uid, i.mtime) for i in archive]
    assert read == [(name, 4, 1 << 21, 1_700_000_000 + 0.5 * exact) for name in NAMES]


def test_sparse_file_is_one_for_gnu_tar(scratch: Path) -> None:
    member = Member(b"holes", stat.S_IFREG, 0o644, 0, 0, 0, size=5 << 20, extents=((1 << 20, 512), (2 << 20, 4)))
    data = written([Item(member, lambda: iter([memoryview(b"one".ljust(512) + b"two!")])), a_file(b"after")])
    assert len(data) < 10_000
    subprocess.run(["tar", "-xC", scratch], input=data, check=True)
    wanted = bytearray(5 << 20)
    wanted[1 << 20 : (1 << 20) + 512], wanted[2 << 20 : (2 << 20) + 4] = b"one".ljust(512), b"two!"
    assert (scratch / "holes").read_bytes() == bytes(wanted)
    assert (scratch / "after").exists()


@pytest.mark.parametrize("size", [1, 5, 90, 92, 93, 94, 95, 989, 990, 991, 992, 9988, 9989])
def test_length_of_a_record_counts_itself(size: int) -> None:
    made = record(b"k", b"v" * size)
    assert int(made.split(b" ")[0]) == len(made)
