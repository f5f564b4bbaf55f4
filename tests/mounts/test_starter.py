"""Servers that start, that cannot, and that end before they say a word."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, LayerfsError
from layerfs.mounts.starter import Ready, spell, start_forked
from tests.waiting import PATIENCE


def children() -> set[int]:
    """Our children, also those that other tests have left behind with a mount that never answers."""
    found = set()
    for table in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(table.read_text().rpartition(") ")[2].split()[1]) == os.getpid():
                found.add(int(table.parent.name))
    return found


def raising(error: BaseException) -> Callable[[Ready], None]:
    def serve(_: Ready) -> None:
        raise error

    return serve


def killed(_: Ready) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exit_status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_server_that_is_ready_has_a_pid_and_ends_with_its_work() -> None:
    pid = start_forked(lambda ready: ready(), "the server")
    assert exit_status(pid) == 0


@pytest.mark.parametrize(
    ("serve", "message", "hint"),
    [
        (raising(InvalidArgument("no", "do")), "no", "do"),
        (raising(FileNotFoundError(2, "No such file", b"/\xff")), "/\udcff: No such file", ""),
        (raising(OSError(5, "Input/output error")), "Input/output error", ""),
        (raising(ZeroDivisionError("oops")), "a bug: ZeroDivisionError: oops", "please report it"),
        (raising(SystemExit(3)), "a bug: SystemExit: 3", "please report it"),
        (killed, "the server ended as it started", "try again with --debug --log FILE"),
        (lambda _: None, "the server ended as it started", "try again with --debug --log FILE"),
    ],
)
def test_what_keeps_a_server_from_starting_is_said(serve: Callable[[Ready], None], message: str, hint: str) -> None:
    before = children()
    with pytest.raises(LayerfsError) as caught:
        start_forked(serve, "the server")
    assert (caught.value.message, caught.value.hint) == (message, hint)
    assert children() <= before, "it was not waited for"


def test_a_long_complaint_arrives_whole() -> None:
    with pytest.raises(LayerfsError) as caught:
        start_forked(raising(LayerfsError("x" * 200_000)), "the server")
    assert len(caught.value.message) == 200_000


def test_an_error_after_the_start_is_logged_and_the_exit_status() -> None:
    program = """
import os
from layerfs.mounts.starter import start_forked
def serve(ready):
    ready()
    raise ZeroDivisionError("late")
pid = start_forked(serve, "the server of a test")
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == "1\n"
    assert "the server of a test ended by a bug" in done.stderr
    assert "ZeroDivisionError: late" in done.stderr


def test_an_error_is_spelt_as_message_and_hint() -> None:
    assert spell(InvalidArgument("a", "b")) == b"a\0b"
    assert spell(PermissionError(1, "Operation not permitted", "x")) == b"x: Operation not permitted"
