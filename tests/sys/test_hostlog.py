"""Lines for the host's log, from a process that must neither wait nor fail for them."""

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.sys.hostlog import LONGEST, HostLog, severity


class Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def place(scratch: Path) -> bytes:
    return os.fsencode(scratch / "log")


@pytest.fixture
def daemon(place: bytes) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as daemon:
        daemon.bind(place)
        yield daemon


def record(message: str, level: int = logging.WARNING, exc_info: object = None) -> logging.LogRecord:
    return logging.LogRecord("layerfs.x", level, "x.py", 1, message, (), exc_info)  # type: ignore[arg-type]


def heard(daemon: socket.socket) -> list[bytes]:
    found = []
    try:
        while True:
            found.append(daemon.recv(1 << 16))
    except BlockingIOError:
        return found


def test_a_line_says_how_grave_it_is_and_who_wrote_it(place: bytes, daemon: socket.socket) -> None:
    rest = Kept()
    HostLog(rest, place).handle(record("a\x1b[1m\nb"))
    assert heard(daemon) == [b"<28>layerfs[%d]: layerfs.x: a\\x1b[1m\\nb" % os.getpid()]
    assert rest.records == []


def test_each_line_of_a_traceback_is_a_message(place: bytes, daemon: socket.socket) -> None:
    try:
        raise ValueError("why")
    except ValueError as error:
        HostLog(Kept(), place).handle(record("failed", logging.ERROR, (ValueError, error, error.__traceback__)))
    lines = heard(daemon)
    assert lines[0].endswith(b": layerfs.x: failed") and lines[-1].endswith(b": ValueError: why")
    assert all(line.startswith(b"<27>layerfs[") and b"\n" not in line for line in lines)


def test_a_long_line_is_cut(place: bytes, daemon: socket.socket) -> None:
    HostLog(Kept(), place).handle(record("x" * 100_000))
    assert [len(line) for line in heard(daemon)] == [LONGEST]


def test_without_a_daemon_it_goes_elsewhere(place: bytes) -> None:
    rest = Kept()
    log = HostLog(rest, place)
    log.handle(record("one"))
    Path(os.fsdecode(place)).touch()  # no socket
    log.handle(record("two"))
    os.unlink(place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(place)
        log.handle(record("three"))
    assert [kept.getMessage() for kept in rest.records] == ["one", "two", "three"]


def test_a_daemon_that_is_behind_is_not_waited_for(place: bytes, daemon: socket.socket) -> None:
    rest = Kept()
    log = HostLog(rest, place)
    for number in range(10_000):
        log.handle(record(str(number)))
        if rest.records:
            break
    assert rest.records[0].getMessage() == str(number)
    assert len(heard(daemon)) == number
    log.handle(record("again"))
    assert len(heard(daemon)) == 1


@pytest.mark.parametrize(
    ("level", "number"),
    [(logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7)],
)
def test_levels_have_the_numbers_of_syslog(level: int, number: int) -> None:
    assert severity(level) == number
