"""Layers compressed: any reader gets the same bytes back, and digests are those of both sides."""

import subprocess

import pytest

from layerfs.errors import InvalidArgument
from layerfs.oci.digest import digest_of
from layerfs.oci.pack import COMPRESSIONS, Packer
from tests.host import require

DATA = b"".join(b"%d" % (number * number) for number in range(100_000))


def packed(compression: str, step: int) -> tuple[bytes, Packer]:
    out = bytearray()
    packer = Packer(out.extend, compression)
    for at in range(0, len(DATA), step):
        packer.write(memoryview(DATA)[at : at + step])
    packer.finish()
    return bytes(out), packer


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_other_programs_read_it(compression: str) -> None:
    require("zstd")
    data, packer = packed(compression, 1000)
    program = {"": ["cat"], "gzip": ["gzip", "-dc"], "zstd": ["zstd", "-dcq"]}[compression]
    assert subprocess.run(program, input=data, capture_output=True, check=True).stdout == DATA
    assert (packer.unpacked.digest, packer.packed.digest) == (digest_of(DATA), digest_of(data))
    assert (packer.unpacked.size, packer.packed.size) == (len(DATA), len(data))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_bytes_do_not_depend_on_the_pieces(compression: str) -> None:
    assert packed(compression, 512)[0] == packed(compression, 512)[0]
    assert packed(compression, 1 << 20)[1].unpacked.digest == digest_of(DATA)


def test_other_compressions_are_refused() -> None:
    with pytest.raises(InvalidArgument):
        Packer(lambda data: None, "bzip2")
