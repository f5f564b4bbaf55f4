"""Requests that pyfuse3 does not know, as bytes on a socket that stands for the device."""

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from layerfs.fuse import wire
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.device import Device
from layerfs.fuse.operations import Operations
from layerfs.fuse.raw_requests import RawRequests
from layerfs.fuse.wire import Opcode
from tests.fuse.conftest import Pair
from tests.fuse.test_operations import ROOT, ino_of
from tests.oracle.trees import file
from tests.union.box import Box


@pytest.fixture
def ops(scratch: Path) -> Iterator[Any]:
    with Box(scratch, {b"f": file(b"data")}) as box:
        yield Operations(box.union, ServeConfig(mountpoint=b"/nowhere"))


def message(opcode: int, node: int, body: bytes) -> bytes:
    head = wire.REQUEST_HEADER.pack(wire.REQUEST_HEADER.size + len(body), opcode, 6, node, 0, 0, 0, 0, 0)
    return head + body


async def serve(raw: RawRequests, request: bytes) -> None:
    rest = raw.begin(request)
    if rest is not None:
        await rest()


async def test_each_request_is_answered_once_whatever_happens(ops: Any, pair: Pair) -> None:
    kernel, device = pair
    ino = await ino_of(ops, b"f")
    opened = await ops.open(ino, os.O_RDWR, ROOT)
    with closing(RawRequests(ops, Device(device.fileno()), b"/nowhere")) as raw:
        await serve(raw, message(Opcode.FALLOCATE, ino, wire.FALLOCATE_REQUEST.pack(opened.fh, 0, 100, 0)))
        assert kernel.recv(100) == wire.reply(6, b"")
        await serve(raw, message(Opcode.LSEEK, ino, wire.LSEEK_REQUEST.pack(opened.fh, 0, os.SEEK_END)))
        assert kernel.recv(100) == wire.failure(6, errno.EINVAL)
        await serve(raw, message(Opcode.LSEEK, 12345, wire.LSEEK_REQUEST.pack(opened.fh, 0, os.SEEK_DATA)))
        assert kernel.recv(100) == wire.failure(6, errno.ESTALE)


async def test_a_message_that_makes_no_sense_is_eio_and_is_logged(
    ops: Any, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    kernel, device = pair
    with closing(RawRequests(ops, Device(device.fileno()), b"/nowhere")) as raw:
        for opcode in set(wire.RAW) - {Opcode.STATX}:
            await serve(raw, message(opcode, 1, b"short"))
            assert kernel.recv(100) == wire.failure(6, errno.EIO)
    assert "request 43 failed" in caplog.text
    caplog.clear()


async def test_attributes_are_answered_at_once(ops: Any, pair: Pair) -> None:
    kernel, device = pair
    ino = await ino_of(ops, b"f")
    with closing(RawRequests(ops, Device(device.fileno()), b"/nowhere")) as raw:
        assert raw.begin(message(Opcode.STATX, ino, bytes(24))) is None
        mask, _, _, nlink, _, _, mode, number, size, *_ = wire.STATX.unpack(kernel.recv(1000)[16 + 32 :])
        assert (nlink, mode, number, size) == (1, 0o100644, ino, 4)
        assert mask & wire.BASIC_STATS == wire.BASIC_STATS
        assert raw.begin(message(Opcode.STATX, 12345, bytes(24))) is None
        assert kernel.recv(100) == wire.failure(6, errno.ESTALE)
