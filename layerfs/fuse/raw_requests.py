"""Requests that pyfuse3 does not know, answered from bytes.

They come from where requests are read: set aside by libfuse's reader, or by the lane (event_loop.py). Each is answered
by a task of its own, so nobody waits for a long one; STATX at once, since Rust's programs ask it of every file. Where
nothing sets them aside, since the compiled part is missing, libfuse answers ENOSYS, and programs fall back.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from layerfs.fuse import wire
from layerfs.fuse.device import Device
from layerfs.fuse.extents import Extents
from layerfs.fuse.failures import errno_for
from layerfs.fuse.filedata import FileData
from layerfs.fuse.flushing import Flusher
from layerfs.fuse.raw_inodes import RawInodes
from layerfs.fuse.threads import Threaded
from layerfs.fuse.wire import ClientIds, Opcode, Request

Answer = Callable[[Request, ClientIds], Awaitable[bytes]]


class RawRequests:
    """Answers for one union, on the device. Owns its descriptor of it."""

    def __init__(self, files: FileData[Any], device: Device, mountpoint: bytes) -> None:
        self._device = device.again()
        self._files = files
        self._flusher = Flusher(mountpoint)
        extents, inodes = Extents(files, Threaded(), self._flusher.flush), RawInodes(files)
        self._quick: dict[int, Callable[[Request, ClientIds], bytes]] = {Opcode.STATX: inodes.statx}
        self._answers: dict[int, Answer] = {
            Opcode.IOCTL: inodes.ioctl,
            Opcode.FALLOCATE: extents.fallocate,
            Opcode.LSEEK: extents.lseek,
            Opcode.COPY_FILE_RANGE: extents.copy,
            Opcode.TMPFILE: inodes.tmpfile,
            Opcode.COPY_FILE_RANGE_64: extents.copy_64,
        }

    def begin(self, message: bytes) -> Callable[[], Awaitable[None]] | None:
        """Answer one request, or return what answers it in a task of its own; a failure is its client's alone."""
        request = wire.request(message)
        quick = self._quick.get(request.opcode)
        if quick is None:
            return partial(self._serve, request, wire.client(message))
        try:
            self._device.answer(request.unique, quick(request, wire.client(message)))
        except Exception as error:
            self._fail(request, error)
        return None

    async def _serve(self, request: Request, client: ClientIds) -> None:
        self._files.waiting += 1
        try:
            self._device.answer(request.unique, await self._answers[request.opcode](request, client))
        except Exception as error:
            self._fail(request, error)
        finally:
            self._files.waiting -= 1

    def _fail(self, request: Request, error: Exception) -> None:
        self._device.fail(request.unique, errno_for(error, f"request {request.opcode}"))

    def close(self) -> None:
        """Give the device back, and end the helper."""
        self._flusher.close()
        self._device.close()
