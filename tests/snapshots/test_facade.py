"""The snapshotter from trio and from asyncio."""

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from layerfs.errors import NotFound
from layerfs.snapshots.facade import AsyncSnapshotter
from layerfs.snapshots.snapshotter import Snapshotter
from tests.contract.subjects import Subject, a_subject


@pytest.fixture
def subject(scratch: Path) -> Iterator[Subject]:
    with a_subject("overlay", scratch) as found:
        yield found


async def live(snapshots: AsyncSnapshotter) -> None:
    """A life of layers."""
    assert await snapshots.prepare("key") == await snapshots.mounts("key")
    await snapshots.commit("base", "key", {"a": "1"}, volatile=True)
    await snapshots.view("look", "base")
    assert [info.name for info in await snapshots.walk("kind==view")] == ["look"]
    assert (await snapshots.update(await snapshots.stat("base"), "labels.a")).labels == {"a": "1"}
    assert (await snapshots.usage("base")).inodes == 1
    assert (await snapshots.stack("look")).lowers == ((await snapshots.layer("base")).path,)
    with pytest.raises(NotFound):
        await snapshots.remove("absent")
    assert await snapshots.adopt("again", "base")
    for name in ("look", "base", "again"):
        await snapshots.remove(name)
    assert await snapshots.cleanup() == 2
    assert snapshots.name == "overlay"
    assert snapshots.capabilities


async def test_trio_awaits_every_call(subject: Subject) -> None:
    await live(AsyncSnapshotter(subject.snapshots, trio.to_thread.run_sync))


async def test_many_tasks_keep_their_snapshots_apart(subject: Subject) -> None:
    snapshots = AsyncSnapshotter(subject.snapshots, trio.to_thread.run_sync)

    async def one(number: int) -> None:
        await snapshots.prepare(f"key {number}")
        await snapshots.commit(f"name {number}", f"key {number}", volatile=True)
        if number % 2:
            await snapshots.remove(f"name {number}")

    async with trio.open_nursery() as nursery:
        for number in range(64):
            nursery.start_soon(one, number)
    assert {info.name for info in await snapshots.walk()} == {f"name {number}" for number in range(0, 64, 2)}


def test_asyncio_awaits_every_call(scratch: Path) -> None:
    with a_subject("overlay", scratch) as subject:
        asyncio.run(live(AsyncSnapshotter(subject.snapshots, asyncio.to_thread)))


def test_facade_has_every_public_operation() -> None:
    ours = {name for name, _ in inspect.getmembers(Snapshotter, inspect.isfunction) if not name.startswith("_")}
    within = {"seal", "seen", "flush", "change", "to_make", "require", "while_there"}  # for the rooms around it
    theirs = {name for name, _ in inspect.getmembers(AsyncSnapshotter, inspect.isfunction) if not name.startswith("_")}
    assert ours - within == theirs
