"""The union as a front end sees it."""

import errno
import os
from pathlib import Path

import pytest

from layerfs.union.attrs import Change
from tests.oracle.trees import file, symlink
from tests.union.box import Box


def test_what_each_question_is_for(scratch: Path) -> None:
    with Box(scratch, {b"d/f": file(b"f"), b"s": symlink(b"d")}) as box:
        union = box.union
        with box.node(b"d") as directory, box.node(b"s") as link, box.node(b"d/f") as inner:
            assert union.names(directory.ino) == [b"f"]
            assert union.readlink(link.ino) == b"d"
            assert union.parent_of(inner.ino) == directory.ino and union.parent_of(1) == 1
            assert union.origins(directory.ino) == [(box.layer(1), b"/d")]
            for call, code in (
                (lambda: union.file(directory.ino), errno.EISDIR),
                (lambda: union.readlink(inner.ino), errno.EINVAL),
                (lambda: union.directory(inner.ino), errno.ENOTDIR),
            ):
                with pytest.raises(OSError) as caught:
                    call()
                assert caught.value.errno == code


def test_times_that_are_known_are_no_change(scratch: Path) -> None:
    """The kernel sends them after each unlink and rename; they are not worth a copy-up."""
    with Box(scratch, {b"f": file(b"f")}) as box, box.node(b"f") as node:
        mtime = box.stat(b"f").st_mtime_ns
        assert box.union.is_idle(node.ino, Change(mtime_ns=mtime))
        assert not box.union.is_idle(node.ino, Change(mtime_ns=mtime + 1))
        assert not box.union.is_idle(node.ino, Change(mtime_ns=mtime, mode=0o600))


def test_a_file_that_a_thread_uses_stays_open_past_its_release(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"data")}) as box, box.node(b"f") as node:
        held = box.union.open_file(node.ino, os.O_RDONLY)
        fd = box.data_fd(node.ino)
        with box.union.busy(held):
            box.union.release(node.ino)
            assert os.pread(fd, 9, 0) == b"data"
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_what_is_written_back_leaves_the_mtime_to_the_kernel(scratch: Path) -> None:
    """It moved by the time between the write and the write-back; a time that was sent meanwhile was lost."""
    with Box(scratch, {b"f": file(b"data")}) as box, box.opened(b"f", os.O_RDWR) as node:
        box.union.set_attributes(node.ino, Change(mtime_ns=1_000))
        fd = box.union.writable_fd(node.ino)
        with box.union.writing(node.ino, fd):
            os.pwrite(fd, b"D", 0)
        assert box.stat(b"f").st_mtime_ns == 1_000
        with box.union.writing(node.ino, fd):
            os.pwrite(fd, b"D", 0)
            box.union.set_attributes(node.ino, Change(mtime_ns=2_000))
        assert box.again().stat(b"f").st_mtime_ns == 2_000
