"""A layer written: compressed or not, the DiffID is the same, and what is written is what was hashed."""

from pathlib import Path

import pytest

from layerfs.oci.digest import digest_of
from layerfs.oci.layer import Expected
from layerfs.oci.produce import Difference, produce_layer
from tests.oci.tars import END, apply, directory, file, look

LAYER = directory(b"d") + file(b"d/f", b"f" * 100_000) + END


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_digests_hold_when_it_is_applied_again(compression: str, scratch: Path) -> None:
    apply(LAYER, scratch / "a")
    out = bytearray()
    done = produce_layer(Difference(bytes(scratch / "a")), out.extend, compression)
    assert (done.packed, done.packed_size) == (digest_of(bytes(out)), len(out))
    apply(bytes(out), scratch / "b", expected=Expected(done.packed, done.diff_id))
    assert look(scratch / "a" / "d") == look(scratch / "b" / "d")
    plain = produce_layer(Difference(bytes(scratch / "b")), lambda data: None)
    assert (plain.diff_id, plain.size) == (done.diff_id, done.size)


def test_whoever_cancels_is_heard(scratch: Path) -> None:
    class Cancelled(Exception):
        pass

    def check() -> None:
        raise Cancelled

    apply(LAYER, scratch / "a")
    with pytest.raises(Cancelled):
        produce_layer(Difference(bytes(scratch / "a")), lambda data: None, check=check)
