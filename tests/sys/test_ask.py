"""Questions that may never be answered: who asks goes on, whatever becomes of the answer."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from layerfs.sys.ask import ask
from tests.waiting import PATIENCE


def refuse() -> None:
    raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")


def test_each_question_has_its_answer() -> None:
    assert ask([], 1) == []
    questions = [lambda: None, refuse, lambda: os.stat("/absent"), lambda: 3]
    assert ask(questions, 30) == [0, errno.ENOTCONN, errno.ENOENT, 0]


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Path]:
    """What nobody writes to: opening it takes until the end of the test."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    yield path
    with suppress(OSError):  # ENXIO: nobody reads
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def test_what_is_not_answered_in_time_is_none_and_keeps_nobody(fifo: Path) -> None:
    assert ask([partial(os.open, fifo, os.O_RDONLY), lambda: None], 1) == [None, 0]


def test_a_child_that_is_left_behind_holds_no_pipe_of_the_caller(fifo: Path) -> None:
    """`layerfs status | cat` waited for it."""
    program = """
import os, sys
from functools import partial
from layerfs.sys.ask import ask
print(ask([partial(os.open, sys.argv[1], os.O_RDONLY)], 0.1), flush=True)
os._exit(0)
"""
    command = [sys.executable, "-c", program, str(fifo)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == "[None]\n"


def test_a_child_that_is_left_behind_holds_no_descriptor_of_the_caller(fifo: Path) -> None:
    """A copy of a FUSE device kept whoever asked from hearing that its server was gone."""
    heard, said = os.pipe()
    assert ask([partial(os.open, fifo, os.O_RDONLY)], 0.2) == [None]
    os.close(said)
    assert os.read(heard, 1) == b""
    os.close(heard)


def test_many_questions_are_asked_at_once() -> None:
    assert ask([lambda: None] * 300, 60) == [0] * 300
