"""Sparse files in every dialect: the same holes, and maps that lie are refused."""

import subprocess
from pathlib import Path

import pytest

from layerfs.errors import Corrupt
from tests.oci.tars import END, apply, file, header, octal, padded, pax, record
from tests.oci.test_tar import members

pytestmark = pytest.mark.usefixtures("each_way")


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
