"""A file without a name and inode flags, as bytes; tests/semantics/test_raw_inodes.py has them on a mount."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from layerfs.fuse import wire
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.filedata import UNPRIVILEGED
from layerfs.fuse.operations import Operations
from layerfs.fuse.raw_inodes import RawInodes
from layerfs.fuse.wire import ClientIds, Opcode, Request
from layerfs.sys.file_attr import FSGETXATTR, FSSETXATTR, GETFLAGS, SETFLAGS
from tests.fuse.test_operations import ROOT, ino_of
from tests.oracle.trees import file
from tests.union.box import Box

CLIENT, PRIVILEGED = ClientIds(1000, 1000, 0), ClientIds(0, 0, 0)


@pytest.fixture
def ops(scratch: Path) -> Iterator[Any]:
    with Box(scratch, {b"f": file(b"data")}) as box:
        yield Operations(box.union, ServeConfig(mountpoint=b"/nowhere"))


async def test_a_file_without_a_name_is_opened_by_its_maker(ops: Any) -> None:
    body = wire.CREATE_REQUEST.pack(os.O_RDWR | os.O_TMPFILE, 0o100666, 0o022, 0) + b"/\0"
    answer = await RawInodes(ops).tmpfile(Request(Opcode.TMPFILE, 2, 1, body), CLIENT)
    ino, *_ = wire.ENTRY.unpack_from(answer)
    attributes = wire.ATTRIBUTES.unpack_from(answer, wire.ENTRY.size)
    handle, flags, _ = wire.OPEN_REPLY.unpack_from(answer, wire.ENTRY.size + wire.ATTRIBUTES.size)
    assert len(answer) == wire.ENTRY.size + wire.ATTRIBUTES.size + wire.OPEN_REPLY.size
    assert (attributes[0], attributes[9:13]) == (ino, (0o100644, 0, 1000, 1000))
    assert (handle, flags) == (ino | UNPRIVILEGED, 2)
    assert await ops.write(handle, 0, b"data") == 4
    await ops.release(handle)
    await ops.forget([(ino, 1)])
    with pytest.raises(OSError):
        ops.union.node(ino)


async def test_flags_are_given_in_the_length_that_was_asked_for(ops: Any) -> None:
    ino = await ino_of(ops, b"f")
    opened = await ops.open(ino, os.O_RDONLY, ROOT)
    served = RawInodes(ops)

    async def ask(command: int, value: bytes, out: int, client: ClientIds = PRIVILEGED) -> bytes:
        body = wire.IOCTL_REQUEST.pack(opened.fh, 0, command, 0, len(value), out) + value
        return await served.ioctl(Request(Opcode.IOCTL, 2, ino, body), client)

    head = wire.IOCTL_REPLY.pack(0, 0, 0, 0)
    answer = await ask(GETFLAGS, b"", 4)
    assert len(answer) == len(head) + 4
    assert await ask(SETFLAGS, answer[len(head) :], 0) == head
    assert len(await ask(FSGETXATTR, b"", 28)) == len(head) + 28
    for command, value, out, code in (
        (GETFLAGS, b"", 8, errno.EINVAL),
        (SETFLAGS, b"x", 0, errno.EINVAL),
        (0x5401, b"", 0, errno.ENOTTY),
    ):
        with pytest.raises(OSError) as caught:
            await ask(command, value, out)
        assert caught.value.errno == code
    for command, size in ((SETFLAGS, 4), (FSSETXATTR, 28)):
        with pytest.raises(PermissionError):
            await ask(command, bytes(size), 0, CLIENT)
    await ops.release(opened.fh)
