"""Lists that are being sent: who does not read, goes away, or cannot be served, costs nobody else a place."""

import asyncio
from collections.abc import Iterator

import grpc.aio
import pytest

from layerfs.daemon.streams import Streams

SLOTS = 2


class Reader:
    """A client, as a gRPC context: it takes messages at once, or never, or it goes away."""

    def __init__(self, *, reads: bool = True, gone: bool = False) -> None:
        self.took: list[bytes] = []
        self.status = ""
        self.asked = asyncio.Event()
        self._reads = reads
        self._gone = gone

    async def write(self, message: bytes) -> None:
        self.asked.set()
        if self._gone:
            raise grpc.aio.InternalError("the batch failed")
        if not self._reads:
            await asyncio.Event().wait()
        self.took.append(message)

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.status = code.name
        raise grpc.aio.AbortError(details)


async def pieces() -> Iterator[bytes]:
    return iter([b"a", b"b"])


async def send(streams: Streams, *clients: Reader) -> list[object]:
    """What becomes of lists for clients that ask one after another."""
    tasks = []
    for client in clients:
        tasks.append(asyncio.create_task(streams.send(client, pieces)))
        await asyncio.sleep(0)
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_who_does_not_read_loses_the_list() -> None:
    async def act() -> None:
        never, other = Reader(reads=False), Reader()
        await send(Streams(SLOTS, patience=0.01), never, other)
        assert (never.took, never.status) == ([], "DEADLINE_EXCEEDED")
        assert other.took == [b"a", b"b"]

    asyncio.run(act())


def test_who_does_not_read_makes_room_once_somebody_waits() -> None:
    async def act() -> None:
        streams = Streams(SLOTS, stale=0.01, patience=3600)
        never = [Reader(reads=False) for _ in range(SLOTS)]
        waiting = asyncio.create_task(send(streams, *never))
        for client in never:
            await client.asked.wait()
        other = Reader()
        await send(streams, other)
        assert other.took == [b"a", b"b"]
        assert [client.status for client in never] == ["DEADLINE_EXCEEDED", ""]  # the one that had waited longer
        waiting.cancel()

    asyncio.run(act())


def test_a_client_that_has_gone_ends_its_call_without_an_error() -> None:
    async def act() -> None:
        streams = Streams(1, patience=3600)
        assert [type(each) for each in await send(streams, Reader(gone=True))] == [asyncio.CancelledError]
        other = Reader()
        await send(streams, other)
        assert other.took == [b"a", b"b"]

    asyncio.run(act())


def test_a_file_that_cannot_be_read_is_an_error_of_the_store(caplog: pytest.LogCaptureFixture) -> None:
    def failing() -> Iterator[bytes]:
        yield b"a"
        raise OSError(5, "Input/output error")

    async def make() -> Iterator[bytes]:
        return failing()

    async def act() -> None:
        client = Reader()
        with pytest.raises(grpc.aio.AbortError):
            await Streams().send(client, make)
        assert (client.took, client.status) == ([b"a"], "INTERNAL")

    asyncio.run(act())
