"""Socket activation (sd_listen_fds(3)): the listening socket is systemd's, and gRPC for Python takes no descriptor.

So each connection is passed on to the socket that gRPC listens at, byte for byte, by two tasks. The price is one more
copy; what is gained is that clients wait, instead of failing, while the daemon starts anew.
"""

import asyncio
import os
import socket
from contextlib import suppress
from typing import Final

from layerfs.errors import InvalidArgument

FIRST: Final = 3  # SD_LISTEN_FDS_START
_CHUNK: Final = 1 << 16  # bytes


def inherited() -> socket.socket | None:
    """Return the socket that systemd passed, if it passed one to this process. Raises InvalidArgument for several."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = os.environ.get("LISTEN_FDS", "")
    if count != "1":
        raise InvalidArgument(f"systemd passed {count[:8] or 'no'} sockets", "one ListenStream= is wanted")
    passed = socket.socket(fileno=FIRST)
    passed.set_inheritable(False)
    if passed.family != socket.AF_UNIX or passed.type != socket.SOCK_STREAM:
        passed.detach()
        raise InvalidArgument("the socket that systemd passed is no unix stream", "ListenStream=/path/to/socket")
    return passed


async def relay(listening: socket.socket, inner: bytes) -> asyncio.Server:
    """Pass connections to a listening socket on to the socket at `inner`."""
    # asyncio forgets the task of a connection that is lost, and the collector would take it before the inner one ends.
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        try:
            back, forth = await asyncio.open_unix_connection(os.fsdecode(inner))
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(_pump(reader, forth), _pump(back, writer))
        finally:
            for end in (forth, writer):
                with suppress(OSError):
                    end.close()

    return await asyncio.start_unix_server(connected, sock=listening)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()
    with suppress(OSError):
        if sink.can_write_eof():
            sink.write_eof()
