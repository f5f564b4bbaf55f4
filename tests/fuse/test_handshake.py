"""FUSE_INIT: what the kernel is told. Sockets stand for the device."""

import errno
import os
import socket
import sys

import pytest

from layerfs.errors import Unsupported
from layerfs.fuse.handshake import ALWAYS, ROOM_FOR_INIT, Wanted, negotiate
from layerfs.fuse.wire import INIT_REPLY, INIT_REQUEST, REPLY_HEADER, REQUEST_HEADER, Flag, Flag2, Opcode
from tests.fuse.conftest import Pair

EVERYTHING = 0x7FFFFFFF


def init(
    *, major: int = 7, minor: int = 45, flags: int = EVERYTHING, flags2: int = 0, opcode: int = Opcode.INIT
) -> bytes:
    """A kernel's FUSE_INIT with unique 9 and the 48 bytes of flags2 and unused[11]."""
    body = INIT_REQUEST.pack(major, minor, 131072, flags) + flags2.to_bytes(4, sys.byteorder) + bytes(44)
    header: bytes = REQUEST_HEADER.pack(REQUEST_HEADER.size + len(body), opcode, 9, 0, 0, 0, 0, 0, 0)
    return header + body


def answer(kernel: socket.socket) -> tuple[int, ...]:
    message = kernel.recv(ROOM_FOR_INIT)
    length, error, unique = REPLY_HEADER.unpack_from(message)
    assert (length, error, unique) == (len(message), 0, 9)
    assert len(message) == 16 + 64, "fuse_init_out is 64 bytes"
    fields: tuple[int, ...] = INIT_REPLY.unpack_from(message, REPLY_HEADER.size)
    return fields


@pytest.mark.parametrize(
    ("wanted", "extra"),
    [
        (Wanted(), Flag(0)),
        (Wanted(writeback=True), Flag.WRITEBACK_CACHE),
        (Wanted(posix_acl=True), Flag.POSIX_ACL),
        (Wanted(no_open=True), Flag.NO_OPEN_SUPPORT | Flag.ATOMIC_O_TRUNC),
        (Wanted(no_opendir=True), Flag.NO_OPENDIR_SUPPORT),
    ],
)
def test_kernel_is_told_our_flags_and_sizes(pair: Pair, wanted: Wanted, extra: Flag) -> None:
    kernel, device = pair
    kernel.send(init())
    agreed = negotiate(device.fileno(), wanted)
    major, minor, readahead, flags, background, congestion, write, granularity, pages, *_ = answer(kernel)
    assert (major, minor, readahead) == (7, 38, 131072)
    assert (background, congestion, granularity) == (64, 48, 1)
    assert (write, pages) == (1 << 20, 256)
    assert flags == ALWAYS ^ extra == agreed.flags
    assert (agreed.no_open, agreed.no_opendir) == (wanted.no_open, wanted.no_opendir)


def test_nothing_is_asked_for_that_the_kernel_does_not_offer(pair: Pair) -> None:
    kernel, device = pair
    kernel.send(init(minor=31, flags=Flag.ASYNC_READ | Flag.MAX_PAGES | Flag.POSIX_ACL))
    agreed = negotiate(device.fileno(), Wanted(writeback=True))
    assert agreed.flags == Flag.ASYNC_READ | Flag.MAX_PAGES
    assert agreed.minor == answer(kernel)[1] == 31


def test_a_newer_major_is_answered_with_ours_and_asks_again(pair: Pair) -> None:
    kernel, device = pair
    kernel.send(init(major=8))
    kernel.send(init())
    agreed = negotiate(device.fileno(), Wanted())
    assert answer(kernel)[:2] == (7, 38)
    assert answer(kernel)[3] == agreed.flags


@pytest.mark.parametrize("message", [init(minor=27), init(major=6), init(opcode=3)])
def test_what_cannot_be_served_is_refused_in_words(pair: Pair, message: bytes) -> None:
    kernel, device = pair
    kernel.send(message)
    with pytest.raises(Unsupported):
        negotiate(device.fileno(), Wanted())


def test_a_mount_that_is_gone_when_the_kernel_is_answered_is_gone(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says ENOENT to that answer, and the server ended with a traceback."""
    kernel, device = pair
    kernel.send(init())

    def refused(*_: object) -> int:
        raise FileNotFoundError(errno.ENOENT, "no such request")

    monkeypatch.setattr(os, "write", refused)
    with pytest.raises(OSError) as failure:
        negotiate(device.fileno(), Wanted())
    assert failure.value.errno == errno.ENODEV


@pytest.mark.parametrize(("offered", "agreed"), [(EVERYTHING, True), (EVERYTHING & ~Flag.INIT_EXT, False)])
def test_the_second_word_of_flags_counts_where_there_is_one(pair: Pair, offered: int, agreed: bool) -> None:
    kernel, device = pair
    kernel.send(init(flags=offered, flags2=0xFF))
    told = negotiate(device.fileno(), Wanted(writeback=True))
    fields = answer(kernel)
    assert told.may_write_through is agreed
    assert (bool(fields[3] & Flag.INIT_EXT), fields[10]) == (agreed, Flag2.DIRECT_IO_ALLOW_MMAP if agreed else 0)


@pytest.mark.parametrize(
    ("wanted", "offered", "agreed"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_ring_is_promised_where_both_want_it(pair: Pair, wanted: bool, offered: bool, agreed: bool) -> None:
    kernel, device = pair
    kernel.send(init(flags=EVERYTHING, flags2=Flag2.OVER_IO_URING if offered else 0))
    told = negotiate(device.fileno(), Wanted(uring=wanted))
    assert told.uring is agreed
    assert answer(kernel)[10] == (1 << 9 if agreed else 0)
