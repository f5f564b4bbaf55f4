"""The snapshotter for programs that are async: every call goes to a thread, by the means of the caller's library.

    snapshots = AsyncSnapshotter(store.snapshotter(), trio.to_thread.run_sync)
    snapshots = AsyncSnapshotter(store.snapshotter(), asyncio.to_thread)
    mounts = await snapshots.prepare("work", "base")

layerfs itself imports neither. A call that is cancelled goes on in its thread and ends as it would have.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from layerfs.model import Mount, Stack
from layerfs.snapshots.driver import NOTHING, Capability, LayerPlace
from layerfs.snapshots.snapshotter import Snapshotter
from layerfs.store.info import Info, Usage

T = TypeVar("T")


class ToThread(Protocol):
    """A function that runs another one in a thread and awaits its result (`asyncio.to_thread`)."""

    def __call__(self, function: Callable[[], Any], /) -> Awaitable[Any]:
        """Return what the function returns, or raise what it raises."""


class AsyncSnapshotter:
    """As `Snapshotter`, whose methods say what each does and raises."""

    def __init__(self, snapshotter: Snapshotter, to_thread: ToThread) -> None:
        self._snapshots = snapshotter
        self._to_thread = to_thread

    @property
    def name(self) -> str:
        """The driver's name."""
        return self._snapshots.name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this driver can do beyond what all can."""
        return self._snapshots.capabilities

    async def prepare(self, key: str, parent: str = "", labels: Mapping[str, str] = NOTHING) -> tuple[Mount, ...]:
        """Make an active snapshot, and return its mounts."""
        return await self._call(partial(self._snapshots.prepare, key, parent, labels))

    async def view(self, key: str, parent: str = "", labels: Mapping[str, str] = NOTHING) -> tuple[Mount, ...]:
        """Make a read-only view, and return its mounts."""
        return await self._call(partial(self._snapshots.view, key, parent, labels))

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        """Return the mounts of an active snapshot or a view."""
        return await self._call(partial(self._snapshots.mounts, key))

    async def commit(
        self,
        name: str,
        key: str,
        labels: Mapping[str, str] = NOTHING,
        *,
        parent: str = "",
        volatile: bool = False,
    ) -> None:
        """Make an active snapshot a committed one of another name."""
        await self._call(partial(self._snapshots.commit, name, key, labels, parent=parent, volatile=volatile))

    async def adopt(self, name: str, ref: str, parent: str = "", labels: Mapping[str, str] = NOTHING) -> bool:
        """Add a committed snapshot that shares the content of an existing one; False if there is none to share."""
        return await self._call(partial(self._snapshots.adopt, name, ref, parent, labels))

    async def stage(self, key: str, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """Add an active snapshot that holds its layer already."""
        return await self._call(partial(self._snapshots.stage, key, labels))

    async def remove(self, key: str) -> None:
        """Remove a snapshot that has no children."""
        await self._call(partial(self._snapshots.remove, key))

    async def stat(self, key: str) -> Info:
        """Return what is known of a snapshot."""
        return await self._call(partial(self._snapshots.stat, key))

    async def update(self, info: Info, *fields: str) -> Info:
        """Change labels."""
        return await self._call(partial(self._snapshots.update, info, *fields))

    async def walk(self, *filters: str) -> list[Info]:
        """Return the snapshots that match one of the filters, by name."""
        return await self._call(lambda: list(self._snapshots.walk(*filters)))

    async def usage(self, key: str) -> Usage:
        """Return what a snapshot itself takes."""
        return await self._call(partial(self._snapshots.usage, key))

    async def cleanup(self) -> int:
        """Give back what removed snapshots took."""
        return await self._call(self._snapshots.cleanup)

    async def layer(self, key: str) -> LayerPlace:
        """Return where a snapshot has its own content."""
        return await self._call(partial(self._snapshots.layer, key))

    async def writable_layer(self, key: str) -> LayerPlace:
        """Return where an active snapshot has its own content."""
        return await self._call(partial(self._snapshots.writable_layer, key))

    async def stack(self, key: str) -> Stack:
        """Return the layers of a snapshot, to be read."""
        return await self._call(partial(self._snapshots.stack, key))

    async def _call(self, function: Callable[[], T]) -> T:
        result: T = await self._to_thread(function)
        return result
