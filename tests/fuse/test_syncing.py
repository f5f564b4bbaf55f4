"""What is synced with what: a file that was just copied up with the directories that this has changed."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from layerfs.fuse.config import SYNCS, ServeConfig
from layerfs.fuse.operations import Operations
from layerfs.fuse.syncing import bring_to_disk
from layerfs.sys.prctl import set_name
from layerfs.union.options import UnionOptions
from tests.fuse.test_operations import ROOT, ino_of
from tests.oracle.trees import directory, file
from tests.union.box import Box

LAYER = {b"d": directory(), b"d/e": directory(), b"d/e/f": file(b"data"), b"d/g": file(b"data")}


class Synced(list[str]):
    """What was synced, by its path in the scratch directory."""

    def __init__(self, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, lambda fd: self.append(os.readlink(f"/proc/self/fd/{fd}")))
        self._base = f"{scratch}/upper"

    def take(self) -> list[str]:
        found, self[:] = [path.removeprefix(self._base) or "/" for path in self], []
        return found


@pytest.fixture
def synced(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Synced:
    return Synced(scratch, monkeypatch)


@pytest.fixture
def box(scratch: Path, request: pytest.FixtureRequest) -> Iterator[Box]:
    with Box(scratch, LAYER, options=getattr(request, "param", UnionOptions())) as box:
        yield box


def operations(box: Box, *, sync: bool = False, dirsync: bool = False) -> Any:
    return Operations(box.union, ServeConfig(b"/nowhere", sync=sync, dirsync=dirsync))


async def test_the_rename_of_a_copy_up_belongs_to_the_first_sync(box: Box, synced: Synced) -> None:
    """After a power cut the old file was there: what fdatasync(2) had acknowledged was lost."""
    ops = operations(box)
    ino = await ino_of(ops, b"d", b"e", b"f")
    opened = await ops.open(ino, os.O_RDWR, ROOT)
    await ops.write(opened.fh, 0, b"NEW")
    synced.take()
    await ops.fsync(opened.fh, True)
    assert synced.take() == ["/d/e/f", "/d/e", "/d", "/"]
    await ops.fsync(opened.fh, True)
    assert synced.take() == ["/d/e/f"]
    await ops.release(opened.fh)


async def test_a_directory_is_synced_with_those_that_its_copy_up_has_changed(box: Box, synced: Synced) -> None:
    ops = operations(box)
    ino = await ino_of(ops, b"d", b"e")
    await ops.mkdir(ino, b"new", 0o755, ROOT)
    handle = await ops.opendir(ino, ROOT)
    synced.take()
    await ops.fsyncdir(handle, False)
    assert synced.take() == ["/d/e", "/d", "/"]
    await ops.releasedir(handle)


async def test_a_directory_that_nobody_has_read_is_synced(scratch: Path, synced: Synced) -> None:
    """The kernel may open a directory without telling, so nothing of it need be known."""
    with Box(scratch, LAYER, upper={b"own/f": file(b"data")}) as box:
        ops = operations(box)
        await ops.fsyncdir(await ino_of(ops, b"own"), False)
        await ops.fsyncdir(await ino_of(ops, b"d"), False)
        assert synced.take() == ["/own"]


async def test_what_no_one_has_changed_is_synced_already(box: Box, synced: Synced) -> None:
    """A mounted squashfs says EINVAL to fsync(2)."""
    ops = operations(box)
    opened = await ops.open(await ino_of(ops, b"d", b"g"), os.O_RDONLY, ROOT)
    await ops.fsync(opened.fh, False)
    handle = await ops.opendir(await ino_of(ops, b"d"), ROOT)
    await ops.fsyncdir(handle, False)
    assert synced.take() == []
    await ops.release(opened.fh)
    await ops.releasedir(handle)


@pytest.mark.parametrize("box", [UnionOptions(fsync=False), UnionOptions(volatile=True)], indirect=True)
async def test_nothing_is_synced_where_nobody_wants_it(box: Box, synced: Synced) -> None:
    ops = operations(box, sync=True)
    opened = await ops.open(await ino_of(ops, b"d", b"e", b"f"), os.O_RDWR, ROOT)
    synced.take()
    await ops.fsync(opened.fh, False)
    await ops.unlink(await ino_of(ops, b"d"), b"g", ROOT)
    assert synced.take() == []
    await ops.release(opened.fh)


@pytest.mark.parametrize(("option", "setting"), [("sync", ["/d/g", "/d", "/"]), ("dirsync", [])])
async def test_changes_are_synced_as_mount_says(box: Box, synced: Synced, option: str, setting: list[str]) -> None:
    ops = operations(box, sync=option == "sync", dirsync=option == "dirsync")
    top = await ino_of(ops, b"d")
    number = await ino_of(ops, b"d", b"g")
    await ops.setxattr(number, b"user.word", b"value", ROOT)
    assert [path for path in synced.take() if "work" not in path and not path.endswith("(deleted)")] == setting
    for change in (
        ops.mkdir(top, b"new", 0o755, ROOT),
        ops.symlink(top, b"link", b"to", ROOT),
        ops.rename(top, b"new", top, b"newer", 0, ROOT),
        ops.unlink(top, b"g", ROOT),
        ops.rmdir(top, b"newer", ROOT),
    ):
        await change
        assert "/d" in synced.take()


def test_who_brings_to_disk_at_the_end_shows_it_by_its_name() -> None:
    """`layerfs umount` waits for that, however long it takes."""
    comm, seen = Path("/proc/self/comm"), list[bytes]()
    former = comm.read_bytes()
    try:
        bring_to_disk(SimpleNamespace(sync=lambda: seen.append(comm.read_bytes())))  # type: ignore[arg-type]
    finally:
        set_name(former.rstrip())
    assert seen == [SYNCS + b"\n"]
