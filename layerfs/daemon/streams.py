"""Lists that are being sent: so many at once, and a client that does not read cannot keep the others out.

A list waits for a place. If none becomes free for STALE seconds, the list whose client has not read for the longest
time ends. A client that takes no message for PATIENCE seconds loses its list in any case.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc.aio

from layerfs.daemon.status import status_of

PLACES: Final = 32  # lists at once; a place holds 2 MiB at most (one message, and what is spooled in memory)
STALE: Final = 2.0  # s without reading, after which a list makes room for another
PATIENCE: Final = 60.0  # s for a client to take one message of a list
TOLD: Final = "the client did not read the list"


class Streams:
    """The places of the lists that are being sent."""

    def __init__(self, places: int = PLACES, stale: float = STALE, patience: float = PATIENCE) -> None:
        self._free = asyncio.Semaphore(places)
        self._stale = stale
        self._patience = patience
        self._writing: dict[asyncio.Timeout, float] = {}  # since when; the longest one is first

    async def send(self, context: Any, make: Callable[[], Awaitable[Iterator[bytes]]]) -> None:
        """Make a list and send it; a client that does not read is told so, once it reads again."""
        try:
            async with self._place():
                for message in await make():
                    await self._write(context, message)
        except TimeoutError:
            # Not in a place: the status waits behind the message that the client does not take.
            await ending(context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, TOLD))
        except OSError as error:  # of the file in which a long list waits
            await ending(context.abort(*status_of(error)))

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        while not await self._taken():
            self._make_room()
        try:
            yield
        finally:
            self._free.release()

    async def _taken(self) -> bool:
        try:
            async with asyncio.timeout(self._stale):
                return await self._free.acquire()
        except TimeoutError:
            return False

    def _make_room(self) -> None:
        """End the write that has waited for the longest time, if that is long enough."""
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
    """Send something; where the client has gone the call is cancelled, as gRPC does once it has noticed by itself."""
    try:
        await sent
    except grpc.aio.InternalError as error:
        raise asyncio.CancelledError from error
