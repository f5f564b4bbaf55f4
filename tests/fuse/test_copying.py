"""Copy-ups of large files in threads: they end with their client, and one file is copied once."""

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import trio

from layerfs.fuse import copying
from layerfs.fuse.copying import STRIDE, CopyUps, is_killed
from layerfs.fuse.threads import WORTH as LARGE
from layerfs.fuse.threads import Threaded
from layerfs.union.attrs import Change
from layerfs.union.copyup import Staged
from layerfs.union.metacopy import Completion
from layerfs.union.options import UnionOptions
from layerfs.union.shown import has_holes
from tests.oracle.trees import Layer, file, hardlink
from tests.union.box import Box

BIG = 3 * LARGE


@pytest.fixture
def box(scratch: Path) -> Iterator[Box]:
    with Box(scratch, {b"big": file(b"x" * BIG), b"small": file(b"s")}) as box:
        yield box


def ino_of(box: Box, name: bytes) -> int:
    node, _ = box.union.lookup(1, name)
    box.union.remember(node)
    return node.ino


def in_work(box: Box, scratch: Path) -> list[str]:
    """What a copy-up has left in the scratch directory."""
    return [name for name in os.listdir(scratch / "work/work") if name.isdigit()]


async def test_many_who_want_one_file_copy_it_once(box: Box, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = [], copying._copy

    def copy(staged: Staged, client: int) -> None:
        made.append(staged.name)
        real(staged, client)

    monkeypatch.setattr(copying, "_copy", copy)
    copies, ino = CopyUps(box.union, Threaded()), ino_of(box, b"big")
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(copies.ensure, ino)
    assert len(made) == 1 and box.read(b"big") == b"x" * BIG
    assert copies._locks == {}


async def test_small_files_are_left_to_whoever_changes_them(box: Box) -> None:
    await CopyUps(box.union, Threaded()).ensure(ino_of(box, b"small"))
    assert box.union.file(ino_of(box, b"small")).part is not None
    assert not box.union.file(ino_of(box, b"small")).is_upper


async def test_a_copy_ends_with_its_client_and_the_next_one_gets_it(
    box: Box, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that was killed could not end before gigabytes had been copied for it."""
    copies, ino = CopyUps(box.union, Threaded()), ino_of(box, b"big")
    monkeypatch.setattr(copying, "is_killed", lambda client: client == 7)
    monkeypatch.setattr("layerfs.sys.copy._reflink", lambda *_: False)
    with pytest.raises(InterruptedError) as caught:
        await copies.ensure(ino, 7)
    assert caught.value.errno == errno.EINTR
    assert in_work(box, scratch) == [] and not box.union.file(ino).is_upper
    await copies.ensure(ino, 8)
    assert box.union.file(ino).is_upper and box.read(b"big") == b"x" * BIG


async def test_a_file_that_is_to_be_cut_is_copied_no_further(box: Box, scratch: Path) -> None:
    ino = ino_of(box, b"big")
    await CopyUps(box.union, Threaded()).ensure(ino, size=LARGE + 1)
    assert (scratch / "upper/big").stat().st_size == LARGE + 1


def test_data_are_brought_to_disk_while_they_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    ranges: list[tuple[str, int, int]] = []
    monkeypatch.setattr(copying, "start_writeback", lambda _, *part: ranges.append(("begin", *part)))
    monkeypatch.setattr(copying, "wait_for_range", lambda _, *part: ranges.append(("wait", *part)))
    progress = copying._Progress.__new__(copying._Progress)
    progress._fd, progress._client, progress._written, progress._begun = 3, 0, 0, 0
    for offset in range(1 << 20, 3 * STRIDE + 1, 1 << 20):
        progress(offset)
    progress.finish()
    assert ranges == [
        ("begin", 0, STRIDE), ("wait", 0, 0), ("begin", STRIDE, STRIDE), ("wait", 0, STRIDE),
        ("begin", 2 * STRIDE, STRIDE), ("wait", STRIDE, STRIDE), ("wait", 2 * STRIDE, 0),
    ]  # fmt: skip


def test_who_is_killed_is_seen() -> None:
    assert not is_killed(os.getpid())
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    assert not is_killed(child)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert is_killed(child)


def test_a_proc_that_hides_others_makes_nobody_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(*_: object, **__: object) -> NoReturn:
        raise FileNotFoundError(errno.ENOENT, "hidepid=2")

    monkeypatch.setattr("builtins.open", hidden)
    assert not is_killed(os.getpid())


@pytest.fixture
def bare(scratch: Path, require: Callable[..., None]) -> Iterator[Box]:
    """An upper in which `big` is only metadata, as kernel overlayfs leaves it after a chmod with metacopy=on."""
    require("root", "user xattrs")
    upper: Layer = {b"big": file(b"", 0o600, xattrs=(("trusted.overlay.metacopy", b""),))}
    with Box(scratch, {b"big": file(b"x" * BIG)}, upper=upper) as box:
        os.truncate(os.path.join(box.upper, b"big"), BIG)
        yield box


def is_bare(box: Box, name: bytes = b"big") -> bool:
    return "trusted.overlay.metacopy" in os.listxattr(os.path.join(box.upper, name))


async def test_data_of_a_file_that_is_only_metadata_are_copied_by_a_thread_once(
    bare: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gigabyte was copied while nobody else was answered."""
    copied, real = [], copying._copy

    def copy(completing: Completion, client: int) -> None:
        copied.append(threading.current_thread())
        assert is_bare(bare), "until all is there it is read from the layer"
        real(completing, client)

    monkeypatch.setattr(copying, "_copy", copy)
    copies, ino = CopyUps(bare.union, Threaded()), ino_of(bare, b"big")
    before = bare.stat(b"big").st_mtime_ns
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(copies.complete, ino)
    assert len(copied) == 1 and copied[0] is not threading.main_thread()
    assert not is_bare(bare) and bare.read(b"big") == b"x" * BIG
    assert bare.stat(b"big").st_mtime_ns == before
    assert copies._locks == {}


async def test_a_completion_that_ends_leaves_the_file_as_it_was(bare: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    copies, ino = CopyUps(bare.union, Threaded()), ino_of(bare, b"big")
    monkeypatch.setattr(copying, "is_killed", lambda client: client == 7)
    monkeypatch.setattr("layerfs.sys.copy._reflink", lambda *_: False)
    with pytest.raises(InterruptedError):
        await copies.complete(ino, 7)
    assert is_bare(bare) and bare.read(b"big") == b"x" * BIG
    await copies.complete(ino)
    assert not is_bare(bare) and bare.read(b"big") == b"x" * BIG


async def test_what_is_to_be_cut_to_nothing_is_not_completed(bare: Box) -> None:
    ino = ino_of(bare, b"big")
    await CopyUps(bare.union, Threaded()).complete(ino, cut=True)
    assert is_bare(bare)
    bare.union.open_file(ino, os.O_WRONLY | os.O_TRUNC)
    bare.union.release(ino)
    assert not is_bare(bare) and bare.read(b"big") == b""


async def test_a_file_that_is_renamed_is_offered_for_completion_first(bare: Box) -> None:
    assert len([file for file in bare.union.renaming(1, b"big", 1, b"new") if file is not None]) == 1
    assert not is_bare(bare, b"new") and bare.read(b"new") == b"x" * BIG


METADATA_ONLY = UnionOptions(metacopy=True)


async def test_a_large_file_whose_data_stay_below_is_not_copied(scratch: Path) -> None:
    """A chmod and a rename of 2 GiB copied them."""
    with Box(scratch, {b"big": file(b"x" * BIG), b"other": hardlink(b"big")}, options=METADATA_ONLY) as box:
        copies, ino = CopyUps(box.union, Threaded()), ino_of(box, b"big")
        await copies.prepare(ino)
        box.rename(b"big", b"new")
        await copies.settle(ino)
        assert has_holes(os.lstat(scratch / "upper/new")) and box.read(b"new") == b"x" * BIG
        await copies.complete(ino)  # as an open for writing
        assert not has_holes(os.lstat(scratch / "upper/new")) and box.read(b"other") == b"x" * BIG
        assert box.ino(b"other") == box.ino(b"new")


@pytest.mark.parametrize("options", [METADATA_ONLY, UnionOptions()])
async def test_who_has_a_file_open_keeps_its_data_when_its_name_goes(scratch: Path, options: UnionOptions) -> None:
    with Box(scratch, {b"big": file(b"x" * BIG)}, options=options) as box:
        copies, ino = CopyUps(box.union, Threaded()), ino_of(box, b"big")
        box.change(b"big", Change(mode=0o600))
        with box.opened(b"big") as node:
            await copies.settle_victim(1, b"big")
            await copies.settle_victim(1, b"absent")
            box.unlink(b"big")
            box.union.set_attributes(ino, Change(mode=0o640))
            assert os.pread(box.data_fd(node.ino), BIG, 0) == b"x" * BIG
        assert os.lstat(scratch / "l1/big").st_mode & 0o777 == 0o644
