"""A layer from its stream into a directory: digests, cancelling, threads."""

import gzip
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from layerfs.errors import Corrupt
from layerfs.oci.digest import EMPTY, digest_of
from layerfs.oci.layer import Destination, Expected, apply_layer
from layerfs.oci.streams import reader_of
from tests.oci.tars import END, apply, brief, feeder, file

pytestmark = pytest.mark.usefixtures("each_way")

LAYER = b"".join(file(b"d%d/f" % number, b"%d" % number) for number in range(50)) + END + b"behind the end"
PACKED = gzip.compress(LAYER)


def test_digests_of_both_forms(scratch: Path) -> None:
    done = apply(PACKED, scratch / "t", expected=Expected(digest_of(PACKED), digest_of(LAYER)))
    assert (done.packed, done.packed_size, done.diff_id, done.size) == (
        digest_of(PACKED),
        len(PACKED),
        digest_of(LAYER),
        len(LAYER),
    )
    assert (done.compression, done.outcome.entries) == ("gzip", 50)


@pytest.mark.parametrize("expected", [Expected(packed=EMPTY), Expected(diff_id=EMPTY)])
def test_wrong_digest_leaves_nothing(expected: Expected, scratch: Path) -> None:
    with pytest.raises(Corrupt, match="has digest"):
        apply(PACKED, scratch / "t", expected=expected)
    assert brief(scratch / "t") == {}


def test_cancelled_layer_leaves_nothing(scratch: Path) -> None:
    class Cancelled(Exception):
        pass

    def check() -> None:
        if (scratch / "t/d20").exists():
            raise Cancelled

    (scratch / "t").mkdir()
    fd = os.open(scratch / "t", os.O_RDONLY)
    try:
        with pytest.raises(Cancelled):
            apply_layer(feeder(PACKED), Destination(fd), check=check)
    finally:
        os.close(fd)
    assert brief(scratch / "t") == {}


def test_layers_in_threads_and_from_pipes(scratch: Path) -> None:
    def one(number: int) -> dict[str, str]:
        place = scratch / str(number)
        place.mkdir()
        fd = os.open(place, os.O_RDONLY)
        read, write = os.pipe()
        try:
            os.write(write, PACKED)
            os.close(write)
            apply_layer(reader_of(read), Destination(fd))
        finally:
            os.close(fd)
            os.close(read)
        return brief(place)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(one, range(12)))
    assert all(result == results[0] for result in results)
    assert len(results[0]) == 100


def test_digest_that_was_seen_to_be_right_is_not_computed_again(scratch: Path) -> None:
    """But only if the tar's is, which says as much."""
    known = Expected(EMPTY, digest_of(LAYER), is_checked=True)
    done = apply(PACKED, scratch / "a", expected=known)
    assert (done.packed, done.packed_size, done.diff_id) == (EMPTY, len(PACKED), digest_of(LAYER))
    with pytest.raises(Corrupt, match="has digest"):
        apply(PACKED, scratch / "b", expected=Expected(EMPTY, is_checked=True))
    with pytest.raises(Corrupt, match="tar has digest"):
        apply(PACKED, scratch / "c", expected=Expected(EMPTY, EMPTY, is_checked=True))
