"""Blobs side by side: each digest once, the largest first, and an error begins no further blob."""

import threading

import pytest

from layerfs.oci.digest import digest_of
from layerfs.oci.documents import Descriptor
from layerfs.oci.parallel import WORKERS, for_each_blob
from tests.waiting import PATIENCE


def blob(size: int) -> Descriptor:
    return Descriptor("application/octet-stream", digest_of(b"%d" % size), size)


def test_each_digest_is_handled_once_the_largest_first() -> None:
    begun: list[int] = []
    for_each_blob([blob(size) for size in (1, 9, 5, 9, 1)], lambda each: begun.append(each.size))
    assert sorted(begun) == [1, 5, 9]
    assert begun[0] == 9


def test_blobs_are_handled_side_by_side() -> None:
    together = threading.Barrier(WORKERS, timeout=PATIENCE)

    def wait(_: Descriptor) -> None:
        together.wait()

    for_each_blob(map(blob, range(WORKERS)), wait)
    assert not together.broken


def test_an_error_ends_it_and_begins_no_further_blob() -> None:
    begun: list[int] = []

    def fail(each: Descriptor) -> None:
        begun.append(each.size)
        raise OSError(28, "no space")

    with pytest.raises(OSError, match="no space"):
        for_each_blob(map(blob, range(1000)), fail)
    assert len(begun) < 1000
