"""Who reads the device next: what one reader cannot answer the next one gets first. Sockets stand for the device."""

import errno
import os
import select
import socket
from collections.abc import Iterable
from typing import cast

import pytest

from layerfs.fuse import wire
from layerfs.fuse.attending import Attending
from layerfs.fuse.device import Device, Introduction
from layerfs.fuse.wire import INIT_REQUEST, REPLY_HEADER, ROOM, Flag, Opcode
from layerfs.lane.lane import Lane
from tests.fuse.conftest import Pair


class Until:
    """Is over when a descriptor is readable."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.is_leaving = False

    def watch(self, poll: "select.poll") -> None:
        poll.register(self._fd, select.POLLIN)

    def patience(self) -> None:
        return None

    def is_over(self, readable: Iterable[int]) -> bool:
        return self._fd in readable

    def look(self) -> None:
        pass


def test_requests_come_until_the_event(pair: Pair) -> None:
    kernel, theirs = pair
    device, event = Device(os.dup(theirs.fileno())), os.eventfd(0)
    try:
        for message in (b"one", b"two"):
            kernel.send(message)
        requests = device.requests(cast(Attending, Until(event)))
        assert [next(requests), next(requests)] == [b"one", b"two"]
        os.eventfd_write(event, 1)
        assert list(requests) == []
    finally:
        device.close()
        os.close(event)


def test_what_was_held_comes_again_when_the_mount_is_left(pair: Pair) -> None:
    kernel, theirs = pair
    device, event = Device(os.dup(theirs.fileno())), os.eventfd(0)
    try:
        beside = Until(event)
        requests = device.requests(cast(Attending, beside))
        for message in (b"one", b"two", b"three"):
            kernel.send(message)
            device.held.append(next(requests))
        beside.is_leaving = True
        kernel.send(b"four")
        assert [next(requests) for _ in range(4)] == [b"one", b"two", b"three", b"four"]
        assert not device.held
    finally:
        device.close()
        os.close(event)


def test_answers_and_errors_are_messages(pair: Pair) -> None:
    kernel, theirs = pair
    device = Device(os.dup(theirs.fileno()))
    device.answer(7, b"body")
    assert kernel.recv(100) == REPLY_HEADER.pack(20, 0, 7) + b"body"
    for code, told in ((errno.EPERM, errno.EPERM), (524, errno.EIO), (0, errno.EIO)):  # 524: ENOTSUPP, of NFS
        device.fail(8, code)
        assert kernel.recv(100) == REPLY_HEADER.pack(16, -told, 8)
    device.close()


class Ring:
    """A lane that requests come to by its ring alone."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, int, bytes]] = []

    def reply(self, unique: int, error: int, body: bytes = b"") -> None:
        self.replies.append((unique, error, body))


def test_answers_go_to_the_ring_where_there_is_one(pair: Pair) -> None:
    kernel, theirs = pair
    device, ring = Device(os.dup(theirs.fileno())), Ring()
    device.ring = cast(Lane, ring)
    again = device.again()
    device.answer(6, b"body")
    again.fail(8, errno.ENOENT)
    again.fail(10, 524)
    assert ring.replies == [(6, 0, b"body"), (8, errno.ENOENT, b""), (10, errno.EIO, b"")]
    with pytest.raises(BlockingIOError):
        kernel.recv(100, socket.MSG_DONTWAIT)
    again.close()
    device.close()


def test_libfuse_meets_an_old_kernel_with_large_pages_and_then_the_device(pair: Pair) -> None:
    kernel, device = pair
    with Introduction(os.dup(device.fileno())) as introduction:
        assert introduction.path == f"/dev/fd/{introduction.fd}"
        request = os.read(introduction.fd, ROOM)
        opcode, unique, _, body, *_ = wire.request(request)
        assert opcode == Opcode.INIT
        major, minor, readahead, flags = INIT_REQUEST.unpack_from(body)
        assert (major, minor, readahead) == (7, 13, wire.MAX_WRITE)
        assert flags == Flag.DO_READDIRPLUS | Flag.MAX_PAGES
        os.write(introduction.fd, REPLY_HEADER.pack(16, 0, unique))
        introduction.hand_over()
    kernel.send(b"a request")
    assert os.read(introduction.fd, 100) == b"a request"
    assert not os.get_blocking(introduction.fd)
    os.close(introduction.fd)


def test_libfuse_that_refuses_is_an_error(pair: Pair) -> None:
    with Introduction(os.dup(pair[1].fileno())) as introduction:
        with pytest.raises(BlockingIOError):
            introduction.hand_over()
        os.write(introduction.fd, REPLY_HEADER.pack(16, -71, 1))
        with pytest.raises(OSError, match="libfuse refused"):
            introduction.hand_over()
    os.close(introduction.fd)


@pytest.mark.parametrize("refused", [errno.ENOENT, errno.EINVAL])
def test_an_answer_that_the_kernel_refuses_ends_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    """The first request that the prelude held was a readlink of 5,000 bytes: its answer ended the server."""
    device = os.dup(pair[1].fileno())
    said: list[bytes] = []
    real = os.write

    def write(fd: int, data: bytes) -> int:
        if fd != device:
            return real(fd, data)
        said.append(data)
        if len(said) == 1:
            raise OSError(refused, os.strerror(refused))
        return len(data)

    with Introduction(device, [b"held"]) as introduction:
        os.read(introduction.fd, ROOM)
        real(introduction.fd, REPLY_HEADER.pack(16, 0, 1))
        assert not introduction.hand_over()
        assert os.read(introduction.fd, ROOM) == b"held"
        real(introduction.fd, wire.reply(5, b"too long"))
        monkeypatch.setattr(os, "write", write)
        assert introduction.hand_over()
    assert said[1:] == ([wire.failure(5, errno.EIO)] if refused == errno.EINVAL else [])
    os.close(introduction.fd)


def test_libfuse_reads_all_that_was_held_in_order_and_each_answer_reaches_the_kernel(pair: Pair) -> None:
    """Also those that come when another one has been read meanwhile, and those that come last, from the device."""
    kernel, device = pair
    with Introduction(os.dup(device.fileno()), [b"one", b"two", b"three"]) as introduction:
        os.read(introduction.fd, ROOM)
        os.write(introduction.fd, REPLY_HEADER.pack(16, 0, 1))
        for message, answers in ((b"one", []), (b"two", [2, 1]), (b"three", [])):
            assert not introduction.hand_over()
            assert os.read(introduction.fd, ROOM) == message
            for unique in answers:
                os.write(introduction.fd, wire.reply(unique, b""))
        assert introduction.hand_over()
    os.write(introduction.fd, wire.reply(3, b""))
    assert [kernel.recv(100) for _ in range(3)] == [wire.reply(unique, b"") for unique in (2, 1, 3)]
    os.close(introduction.fd)
