"""The answers are the same whoever writes them: each request of a script, by hand and through a trio loop."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from layerfs.fuse import filedata, loading
from layerfs.fuse.answers import MANY_FORGETS
from layerfs.fuse.blocking import Inline, TooLong, finish
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.kept import Kept
from layerfs.fuse.prelude import ByHand, Page
from layerfs.fuse.wire import Request
from layerfs.union.data import MUCH
from tests.oracle.trees import directory, file, symlink
from tests.union.box import Box

ROOT = Request(0, 0, 1, b"")


@pytest.fixture
def box(scratch: Path) -> Iterator[Box]:
    layer = {b"f": file(b"data", 0o4755), b"d": directory(), b"d/e": file(b""), b"link": symlink(b"f")}
    with Box(scratch, layer) as box:
        yield box


@pytest.fixture
def answers(box: Box) -> Iterator[ByHand]:
    blocking = Inline()
    blocking.begin(float("inf"))
    kept = Kept(box.union)
    yield ByHand(box.union, ServeConfig(b"/nowhere"), kept, blocking)
    kept.close()


def test_names_are_made_found_renamed_and_removed(answers: ByHand) -> None:
    assert finish(answers.lookup(1, b"new", ROOT)) == (0, None)
    for make in (answers.mkdir(1, b"new", 0o755, ROOT), answers.symlink(1, b"s", b"to", ROOT)):
        ino, st = finish(make)
        assert st is not None and st.st_nlink
        assert finish(answers.getattr(ino, ROOT)) == (ino, st)
    finish(answers.rename(1, b"s", 1, b"t", 0, ROOT))
    finish(answers.unlink(1, b"t", ROOT))
    finish(answers.rmdir(1, b"new", ROOT))
    assert finish(answers.lookup(1, b"t", ROOT)) == (0, None)


def test_a_file_is_written_and_read_by_its_handle(answers: ByHand, box: Box) -> None:
    opened, (ino, _) = finish(answers.create(1, b"new", 0o644, os.O_RDWR, ROOT))
    assert finish(answers.write(ino, 2, b"data")) == 4
    assert bytes(finish(answers.read(ino, 0, 100))) == b"\0\0data"
    finish(answers.release(ino))
    assert opened.startswith(ino.to_bytes(8, "little"))
    finish(answers.forget([(ino, 1)]))
    assert box.read(b"new") == b"\0\0data"


def test_what_takes_long_is_put_off_before_anything_is_changed(
    answers: ByHand, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An rmdir that clears many whiteouts away, a large file that is cut, many nodes that are forgotten at once."""
    monkeypatch.setattr(loading, "MANY", 0)
    monkeypatch.setattr(filedata, "FREED", 0)
    ino, _ = finish(answers.lookup(1, b"d", ROOT))
    finish(answers.unlink(ino, b"e", ROOT))
    finish(answers.mkdir(1, b"new", 0o755, ROOT))
    _, (ino, _) = finish(answers.create(1, b"large", 0o644, os.O_RDWR, ROOT))
    os.truncate(box.upper + b"/large", MUCH)
    changes = (
        lambda: answers.rmdir(1, b"d", ROOT),
        lambda: answers.rename(1, b"new", 1, b"d", 0, ROOT),
        lambda: answers.open(ino, os.O_RDWR | os.O_TRUNC, ROOT),
        lambda: answers.forget([(ino, 1)] + [(1 << 40, 1)] * MANY_FORGETS),
    )
    before = os.listdir(box.upper), box.union.attributes(ino)
    for change in changes:
        with pytest.raises(TooLong):
            finish(change())
    assert (os.listdir(box.upper), box.union.attributes(ino)) == before
    inline = answers._blocking
    assert isinstance(inline, Inline)
    inline.is_last = True
    finish(answers.rename(1, b"new", 1, b"d", 0, ROOT))
    finish(answers.open(ino, os.O_RDWR | os.O_TRUNC, ROOT))
    assert os.path.getsize(box.upper + b"/large") == 0


@pytest.mark.parametrize("plus", [False, True])
def test_a_page_takes_what_it_has_room_for_and_only_attributes_count_as_lookups(
    answers: ByHand, box: Box, plus: bool
) -> None:
    handle = finish(answers.opendir(1, ROOT))
    page = Page(100_000, plus=plus)
    finish(answers.readdir(handle, 0, page))
    assert len(page.entries) == 2 + 3
    small, after = Page(sum(map(len, page.entries[:4])), plus=plus), Page(100_000, plus=plus)
    finish(answers.readdir(handle, 0, small))
    finish(answers.readdir(handle, 4, after))
    assert small.entries + after.entries == page.entries
    finish(answers.releasedir(handle))
    known: Any = box.ov.table.nodes
    assert (len(known) > 1) == plus


def test_a_directory_is_opened_by_the_kernel_where_that_is_agreed(answers: ByHand) -> None:
    ino, _ = finish(answers.lookup(1, b"d", ROOT))
    assert finish(answers.opendir(ino, ROOT)) == ino
    answers._kept.no_opendir = True
    with pytest.raises(OSError) as failure:
        finish(answers.opendir(ino, ROOT))
    assert failure.value.errno == errno.ENOSYS


def test_a_directory_that_cannot_be_handed_over_fails_where_it_is_listed(answers: ByHand, box: Box) -> None:
    """What the kernel knows of it is dropped then, so that it is looked up anew."""
    stale: list[int] = []
    answers._pages = SimpleNamespace(changed=stale.append)  # type: ignore[assignment]
    ino, _ = finish(answers.lookup(1, b"d", ROOT))
    os.rename(os.path.join(box.layer(1), b"d"), os.path.join(box.layer(1), b"old"))
    os.mkdir(os.path.join(box.layer(1), b"d"))
    for number in (ino, 12345):
        answers.hand_over(SimpleNamespace(listing=lambda number=number: number))  # type: ignore[arg-type]
        with pytest.raises(OSError) as failure:
            finish(answers.readdir(number, 0, Page(1000, plus=False)))
        assert failure.value.errno == errno.ESTALE
    assert stale == [ino]


def test_what_is_not_needed_says_so_and_is_not_asked_again(answers: ByHand) -> None:
    for answer in (answers.flush(1), answers.access(1, 0, ROOT)):
        with pytest.raises(OSError) as failure:
            finish(answer)
        assert failure.value.errno == errno.ENOSYS
