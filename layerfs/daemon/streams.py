"""The answers of `List`, which are streams: a limited number at once, so that clients that do not read block nobody.

A stream holds one of SLOTS while it is sent, and waits until one is free. After STALE seconds without a free slot, the
stream whose client has not read for the longest time is ended. A client that reads nothing for PATIENCE seconds loses
its stream in any case.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc.aio

from layerfs.daemon.status import status_of

SLOTS: Final = 32  # streams at once; each holds 2 MiB at most (one message, and what is spooled in memory)
STALE: Final = 2.0  # s without reading, after which a stream may be ended for another
PATIENCE: Final = 60.0  # s for a client to read one message
TOLD: Final = "the client did not read the list"


class Streams:
    """The streams that are being sent, and the slots for them."""

    def __init__(self, slots: int = SLOTS, stale: float = STALE, patience: float = PATIENCE) -> None:
        self._free = asyncio.Semaphore(slots)
        self._stale = stale
        self._patience = patience
        self._writing: dict[asyncio.Timeout, float] = {}  # the time at which each write began, oldest first

    async def send(self, context: Any, make: Callable[[], Awaitable[Iterator[bytes]]]) -> None:
        """Make a list and send it. A client that did not read gets DEADLINE_EXCEEDED once it reads again."""
        try:
            async with self._slot():
                for message in await make():
                    await self._write(context, message)
        except TimeoutError:
            # The slot is free by now: the status is sent only when the client reads the message before it.
            await ending(context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, TOLD))
        except OSError as error:  # of the file in which a long list waits
            await ending(context.abort(*status_of(error)))

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        while not await self._acquired():
            self._make_room()
        try:
            yield
        finally:
            self._free.release()

    async def _acquired(self) -> bool:
        try:
            async with asyncio.timeout(self._stale):
                return await self._free.acquire()
        except TimeoutError:
            return False

    def _make_room(self) -> None:
        """End the write that began first, if that was STALE seconds ago."""
        now = asyncio.get_running_loop().time()
        longest = next((limit for limit in self._writing if not limit.expired()), None)
        if longest and now - self._writing[longest] >= self._stale:
            longest.reschedule(now)

    async def _write(self, context: Any, message: bytes) -> None:
        async with asyncio.timeout(self._patience) as limit:
            self._writing[limit] = asyncio.get_running_loop().time()
            try:
                await ending(context.write(message))
            finally:
                self._writing.pop(limit, None)


async def ending(sent: Awaitable[None]) -> None:
    """Await a write. Raises CancelledError if the client has gone, as gRPC does when it notices that by itself."""
    try:
        await sent
    except grpc.aio.InternalError as error:
        raise asyncio.CancelledError from error
