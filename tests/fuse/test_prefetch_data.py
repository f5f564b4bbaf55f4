"""Small files opened one after the other: the next ones are asked for, no others, and never what is no file."""

import os
from pathlib import Path

import pytest

from layerfs.fuse.prefetch_attributes import HostName
from layerfs.fuse.prefetch_data import HIGH, KNOWN, LOW, WAITS, DataPrefetch
from layerfs.union.inodes import Directory
from tests.fuse.conftest import FILES


class Watched(DataPrefetch):
    """A prefetch whose requests are noted; `known` says what the disk is found to have been asked for already."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bytes] = []
        self.known = False

    def _advise(self, file: HostName) -> bool:
        self.asked.append(file[1])
        return self.known


@pytest.mark.parametrize("by_name", [True, False])
def test_files_that_follow_are_asked_for_once_each(root: Directory, by_name: bool) -> None:
    stream, names = Watched(), root.names()
    names = sorted(names) if by_name else names
    for count, name in enumerate(names, 1):
        stream.opened(root, name, waited=count <= WAITS)
        if count >= WAITS:
            ahead = len(stream.asked) + WAITS - count
            assert min(LOW, FILES - count) - 1 <= ahead <= HIGH
    assert stream.asked == names[WAITS:]


def test_nothing_is_asked_for_where_nobody_waits_or_opens_in_no_order(root: Directory) -> None:
    stream, names = Watched(), root.names()
    for name in names:
        stream.opened(root, name, waited=False)
    for name in (*names[::7], *names[::-5]):
        stream.opened(root, name, waited=True)
    assert stream.asked == []


def test_who_leaves_the_order_is_followed_no_further(root: Directory) -> None:
    stream, names = Watched(), root.names()
    for name in (*names[:4], names[30]):
        stream.opened(root, name, waited=True)
    asked = len(stream.asked)
    for name in names[40:44]:
        stream.opened(root, name, waited=False)
    assert len(stream.asked) == asked


def test_it_ends_where_all_is_in_memory(root: Directory) -> None:
    stream, names = Watched(), root.names()
    stream.known = True
    for name in names:
        stream.opened(root, name, waited=True if name in names[:WAITS] else False)
    assert len(stream.asked) <= KNOWN + HIGH


def test_the_next_directory_is_followed_from_its_first_file(root: Directory) -> None:
    stream, names = Watched(), root.names()
    for count, name in enumerate(names):
        stream.opened(root, name, waited=count < WAITS)
    other = Directory(2, root, b"d", ())
    other.listing, other.parts = root.listing, root.parts
    stream.asked.clear()
    stream.opened(other, names[0], waited=False)
    assert stream.asked == names[1:HIGH]


def test_a_fifo_is_never_opened_and_what_is_in_memory_is_known(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"data")
    at = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert DataPrefetch()._advise((at, b"fifo"))
        assert DataPrefetch()._advise((at, b"file"))
        with pytest.raises(FileNotFoundError):
            DataPrefetch()._advise((at, b"gone"))
    finally:
        os.close(at)
