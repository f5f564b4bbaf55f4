"""Files and directories that are gone but in use: any number of them, and no more descriptors than others can spare."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from layerfs.union.attrs import Change
from layerfs.union.mutate import Caller
from tests.oracle.trees import directory, file, symlink
from tests.union.box import Box

LIMIT, MANY = 8, 60
ME = Caller(0, 0, 0o022)


@pytest.fixture
def box(scratch: Path) -> Iterator[Box]:
    lower = {b"l%d" % number: file(b"lower-%d" % number) for number in range(MANY)}
    links = {b"s%d" % number: symlink(b"to-%d" % number) for number in range(MANY)}
    empty = {b"d%d" % number: directory() for number in range(MANY)}
    with Box(scratch, lower | links | empty, limit=LIMIT) as box:
        yield box


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def known(box: Box, name: bytes) -> int:
    node, _ = box.union.lookup(1, name)
    box.union.remember(node)
    return node.ino


def write(box: Box, ino: int, data: bytes) -> None:
    os.pwrite(box.union.writable_fd(ino), data, 0)


def read(box: Box, ino: int) -> bytes:
    handle = box.union.data_handle(ino)
    assert isinstance(handle, int)
    return os.pread(handle, 100, 0)


def in_work(scratch: Path) -> list[str]:
    return [name for name in os.listdir(scratch / "work/work") if name.isdigit()]


def test_files_that_were_made_and_removed(box: Box, scratch: Path) -> None:
    """A client with as many as the server has descriptors kept all others from opening anything."""
    before, made = descriptors(), []
    for number in range(MANY):
        node = box.union.create(1, b"n", 0o600, ME)
        box.union.remember(node)
        write(box, node.ino, b"new-%d" % number)
        box.union.unlink(1, b"n")
        made.append(node.ino)
    assert descriptors() - before < 4 * LIMIT
    for number, ino in enumerate(made):
        assert read(box, ino) == b"new-%d" % number
        assert box.union.attributes(ino).st_nlink == 0
        write(box, ino, b"NEW")
        box.union.set_attributes(ino, Change(mode=0o400))
    for number, ino in enumerate(made):
        assert read(box, ino) == b"NEW-%d" % number
        assert box.union.attributes(ino).st_mode & 0o777 == 0o400
        box.union.release(ino)
        box.union.forget(ino, 1)
    assert in_work(scratch) == []


def test_lower_files_that_are_read_and_then_written(box: Box, scratch: Path) -> None:
    before, opened = descriptors(), []
    for number in range(MANY):
        ino = known(box, b"l%d" % number)
        box.union.open_file(ino, os.O_RDONLY)
        box.union.unlink(1, b"l%d" % number)
        opened.append(ino)
    assert [read(box, ino) for ino in opened] == [b"lower-%d" % number for number in range(MANY)]
    for ino in opened:
        write(box, ino, b"UPPER")
    assert [read(box, ino) for ino in opened] == [b"UPPER-%d" % number for number in range(MANY)]
    assert {box.union.attributes(ino).st_nlink for ino in opened} == {0}
    assert descriptors() - before < 4 * LIMIT
    for ino in opened:
        box.union.release(ino)
        box.union.forget(ino, 1)
    assert in_work(scratch) == []
    assert (scratch / "l1/l0").read_bytes() == b"lower-0"


def test_lower_files_that_are_copied_up_while_they_are_open(box: Box) -> None:
    """Each kept a second descriptor until it was closed."""
    before = descriptors()
    for number in range(MANY):
        ino = known(box, b"l%d" % number)
        box.union.open_file(ino, os.O_RDONLY)
        box.union.set_attributes(ino, Change(mode=0o600))
        assert read(box, ino) == b"lower-%d" % number
    assert descriptors() - before < 4 * LIMIT


def test_what_is_only_known_by_number(box: Box) -> None:
    """O_PATH descriptors and working directories of clients need no open, and hold the number all the same."""
    before = descriptors()
    links = [known(box, b"s%d" % number) for number in range(MANY)]
    directories = [known(box, b"d%d" % number) for number in range(MANY)]
    for number in range(MANY):
        box.union.unlink(1, b"s%d" % number)
        box.union.rmdir(1, b"d%d" % number)
    assert descriptors() - before < 4 * LIMIT
    assert [box.union.readlink(ino) for ino in links] == [b"to-%d" % number for number in range(MANY)]
    assert {box.union.attributes(ino).st_nlink for ino in (*links, *directories)} == {0}
    assert [box.union.names(ino) for ino in directories] == [[]] * MANY
    for ino in directories:
        with pytest.raises(OSError):
            box.union.mkdir(ino, b"new", 0o755, ME)


def test_where_there_are_no_links_who_removes_is_told(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    made = []
    with pytest.raises(OSError) as caught:
        for number in range(MANY):
            name = b"n%d" % number
            node = box.union.create(1, name, 0o600, ME)
            box.union.remember(node)
            made.append(node.ino)
            box.union.unlink(1, name)
    assert caught.value.errno == errno.ENFILE
    assert b"n%d" % (len(made) - 1) in box.union.names(1)


def test_a_file_that_gets_a_name_again_is_the_same(box: Box, scratch: Path) -> None:
    nodes = [box.union.create(1, b"n%d" % number, 0o600, ME) for number in range(MANY)]
    for number, node in enumerate(nodes):
        box.union.remember(node)
        write(box, node.ino, b"%d" % number)
        box.union.link(node.ino, 1, b"other%d" % number)
        box.union.unlink(1, b"n%d" % number)
        box.union.unlink(1, b"other%d" % number)
    assert [read(box, node.ino) for node in nodes] == [b"%d" % number for number in range(MANY)]
