"""Compressed streams: any number of members or frames, and every end that is none."""

import gzip
import io
import os
import struct
import subprocess

import pytest
from backports.zstd import CompressionParameter, ZstdCompressor

from layerfs.errors import Corrupt, Unsupported
from layerfs.oci.digest import digest_of
from layerfs.oci.streams import LayerStream, reader_of
from tests.host import require
from tests.oci.tars import feeder

DATA = os.urandom(300_000) + bytes(3_000_000) + b"end"
SKIP = struct.pack("<II", 0x184D2A5F, 11) + b"z" * 11


def zstd(data: bytes) -> bytes:
    from backports.zstd import compress

    return compress(data)


def unpack(data: bytes, step: int) -> tuple[bytes, LayerStream]:
    stream = LayerStream(feeder(data, step))
    return b"".join(stream), stream


WHOLE = {
    "plain": DATA,
    "gzip": gzip.compress(DATA),
    "gzip of three members": gzip.compress(DATA[:5]) + gzip.compress(b"") + gzip.compress(DATA[5:]),
    "gzip and zeros": gzip.compress(DATA) + bytes(5000),
    "gzip, zeros, gzip": gzip.compress(DATA[:99]) + bytes(700) + gzip.compress(DATA[99:]),
    "zstd": zstd(DATA),
    "zstd of three frames": zstd(DATA[:5]) + zstd(b"") + zstd(DATA[5:]),
    "zstd with skippable frames": SKIP + zstd(DATA[:50]) + SKIP + SKIP + zstd(DATA[50:]) + SKIP,
}


@pytest.mark.parametrize("title", WHOLE)
@pytest.mark.parametrize("step", [1 << 20, 4093, 1])
def test_stream_is_read_to_its_end(title: str, step: int) -> None:
    if step == 1 and title == "plain":
        return
    data, stream = unpack(WHOLE[title], step)
    assert data == DATA
    assert (stream.unpacked.digest, stream.unpacked.size) == (digest_of(DATA), len(DATA))
    assert (stream.packed.digest, stream.packed.size) == (digest_of(WHOLE[title]), len(WHOLE[title]))


BROKEN = {
    "gzip cut": gzip.compress(DATA)[:-1],
    "gzip cut in the middle": gzip.compress(DATA)[:150_000],
    "gzip cut in the header": gzip.compress(DATA)[:7],
    "gzip cut in the second member": gzip.compress(DATA) + gzip.compress(DATA)[:20],
    "gzip and garbage": gzip.compress(DATA) + b"garbage",
    "gzip, zeros, garbage": gzip.compress(DATA) + bytes(99) + b"garbage",
    "gzip and half a magic": gzip.compress(DATA) + b"\x1f",
    "gzip with a wrong sum": gzip.compress(DATA)[:-8] + bytes(8),
    "gzip with wrong bytes": gzip.compress(DATA)[:1000] + b"\xff" * 100 + gzip.compress(DATA)[1100:],
    "zstd cut": zstd(DATA)[:-1],
    "zstd cut in the middle": zstd(DATA)[:150_000],
    "zstd cut in the header": zstd(DATA)[:5],
    "zstd cut in the second frame": zstd(DATA) + zstd(DATA)[:20],
    "zstd cut in a skippable frame": zstd(DATA) + SKIP[:-1],
    "zstd and garbage": zstd(DATA) + b"garbage",
    "zstd with a wrong block": zstd(DATA)[:-3] + b"\xff" * 3,
}


@pytest.mark.parametrize("title", BROKEN)
@pytest.mark.parametrize("step", [1 << 20, 333])
def test_stream_that_is_not_whole_is_an_error(title: str, step: int) -> None:
    with pytest.raises(Corrupt):
        unpack(BROKEN[title], step)


def test_other_compressions_are_named() -> None:
    with pytest.raises(Unsupported, match="xz"):
        unpack(b"\xfd7zXZ\0" + bytes(99), 99)


def test_window_that_is_too_large_is_named() -> None:
    window: dict[int, int] = {
        CompressionParameter.window_log: 28,
        CompressionParameter.enable_long_distance_matching: 1,
    }
    coder = ZstdCompressor(options=window)
    with pytest.raises(Unsupported, match="window"):
        unpack(coder.compress(DATA) + coder.flush(), 999)


def test_empty_layer_is_one() -> None:
    assert unpack(b"", 1)[0] == b""


def test_pieces_of_a_bomb_stay_small() -> None:
    for packed in (gzip.compress(bytes(50 << 20)), zstd(bytes(50 << 20))):
        assert max(len(piece) for piece in LayerStream(feeder(packed))) <= 1 << 20


def test_pigz_and_zstd_over_a_pipe() -> None:
    require("zstd")
    for command in (["gzip", "-c"], ["zstd", "-c", "-T2", "-q"]):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
            assert program.stdin is not None and program.stdout is not None
            program.stdin.write(DATA[:60_000])
            program.stdin.close()
            out = io.BytesIO()
            for piece in LayerStream(reader_of(program.stdout.fileno())):
                out.write(piece)
        assert out.getvalue() == DATA[:60_000]
