"""Open files and the number of descriptors: what is open works, and who opens one more than there can be is told."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from layerfs.union.attrs import Change
from layerfs.union.pool import MARGIN
from tests.host import require
from tests.oracle.trees import directory, file
from tests.union.box import Box, as_person


@contextmanager
def a_plain_user(scratch: Path) -> Iterator[Path]:
    """Be nobody in particular, in a directory of one's own."""
    require("root")
    os.chown(scratch, 1234, 1234)
    with as_person(1234, 1234):
        yield scratch


@pytest.mark.parametrize("mode", [0o444, 0o200, 0o000])
def test_files_that_only_their_maker_could_open_stay_open(scratch: Path, mode: int) -> None:
    """They were closed when there were many, and could not be opened for writing again."""
    with a_plain_user(scratch), Box(scratch, {b"low": file(b"low")}, owner=(1234, 1234), limit=2) as box:
        union, inos = box.union, []
        for index in range(8):
            node = union.create(1, b"%d" % index, mode, box.caller)
            union.remember(node)
            inos.append(node.ino)
        for ino in inos:
            os.pwrite(union.writable_fd(ino), b"data", 0)
        for index, ino in enumerate(inos):
            assert os.pread(box.data_fd(ino), 9, 0) == b"data"
            union.release(ino)
            assert os.stat(os.path.join(box.upper, b"%d" % index)).st_size == 4


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_an_open_file_outlives_a_change_of_its_mode(scratch: Path, flags: int) -> None:
    """Its descriptor had been closed, and the new mode forbade to open it again."""
    names = [b"%d" % index for index in range(8)]
    with a_plain_user(scratch), Box(scratch, {name: file(name) for name in names}, owner=(1234, 1234), limit=2) as box:
        with ExitStack() as using:
            nodes = [using.enter_context(box.opened(name, flags)) for name in names]
            for node in nodes:
                box.union.set_attributes(node.ino, Change(mode=0))
            for name, node in zip(names, nodes, strict=True):
                assert os.pread(box.data_fd(node.ino), 9, 0) == name
                if flags == os.O_RDWR:
                    assert os.pwrite(box.union.writable_fd(node.ino), b"W", 0) == 1


def test_one_more_than_there_can_be_is_emfile_and_the_rest_works(scratch: Path) -> None:
    with a_plain_user(scratch), Box(scratch, {b"d/low": file(b"low")}, owner=(1234, 1234)) as box:
        box.ov.files.capacity = 4
        inos = []
        for index in range(4):
            node = box.union.create(1, b"%d" % index, 0o444, box.caller)
            box.union.remember(node)
            inos.append(node.ino)
        for attempt in (lambda: box.create(b"more"), lambda: box.read(b"d/low")):
            with pytest.raises(OSError, match="Too many open files") as caught:
                attempt()
            assert caught.value.errno == errno.EMFILE
        assert [os.pwrite(box.union.writable_fd(ino), b"x", 0) for ino in inos] == [1] * 4
        box.mkdir(b"directory")
        for ino in inos:
            box.union.release(ino)
        assert box.read(b"d/low") == b"low"


def test_what_a_front_end_may_open_and_what_is_held_count_as_well(scratch: Path) -> None:
    with a_plain_user(scratch), Box(scratch, {b"d": directory()}, owner=(1234, 1234)) as box:
        pool = box.ov.files
        pool.capacity = 24
        box.union.leave_to_front(4)
        for index in range(19):
            assert box.union.has_room()
            box.union.remember(box.union.create(1, b"%d" % index, 0, box.caller))
        box.union.unlink(1, b"7")
        assert (pool.capacity, box.union.has_room()) == (20, False)
        with pytest.raises(OSError, match="Too many open files"):
            box.create(b"more")


def test_directories_leave_room_to_files(scratch: Path) -> None:
    layer = {b"d%02d/f" % index: file() for index in range(60)}
    with Box(scratch, layer, upper={b"own": file(b"own")}) as box:
        for index in range(60):
            box.union.names(box.union.lookup(1, b"d%02d" % index)[0].ino)
        before = len(os.listdir("/proc/self/fd"))
        assert box.union.has_room() and len(os.listdir("/proc/self/fd")) == before
        box.ov.files.capacity = 20 - MARGIN
        box.union.has_room()
        assert box.ov.handles.open_parts() <= 20


def test_a_full_table_of_descriptors_makes_room(scratch: Path) -> None:
    """EMFILE reached the client, though directories and files could be closed."""
    names = [b"%d" % index for index in range(20)]
    with Box(scratch, {name: file(name) for name in names}) as box, ExitStack() as using:
        nodes = [using.enter_context(box.opened(name)) for name in names]
        with taken():
            box.create(b"new", b"new")
            assert [os.pread(box.data_fd(node.ino), 9, 0) for node in nodes] == names


@contextmanager
def taken() -> Iterator[None]:
    """Take every descriptor that is left."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, limits[1]))
    fds = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                fds.append(os.dup(0))
        yield
    finally:
        for fd in fds:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_one_that_was_exchanged_meanwhile_is_not_opened_again(scratch: Path) -> None:
    with Box(scratch, {}, upper={b"a": file(b"a"), b"b": file(b"b")}) as box, box.opened(b"a") as node:
        box.ov.files.limit = 1
        with box.opened(b"b"):
            os.replace(os.path.join(box.upper, b"b"), os.path.join(box.upper, b"a"))
            with pytest.raises(OSError, match="Stale"):
                box.union.data_handle(node.ino)
