"""Questions that may never be answered: who asks goes on, whatever becomes of the answer."""

import errno
import os
import subprocess
import sys
from pathlib import Path

from layerfs.sys.ask import ask


def refuse() -> None:
    raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")


def test_each_question_has_its_answer() -> None:
    assert ask([], 1) == []
    questions = [lambda: None, refuse, lambda: os.stat("/absent"), lambda: 3]
    assert ask(questions, 30) == [0, errno.ENOTCONN, errno.ENOENT, 0]


def test_what_is_not_answered_in_time_is_none_and_keeps_nobody() -> None:
    heard, said = os.pipe()
    try:
        assert ask([lambda: os.read(heard, 1), lambda: None], 0.2)[0] is None
    finally:
        os.close(said)  # the child that was left behind ends here
        os.close(heard)


def test_a_child_that_is_left_behind_holds_no_pipe_of_the_caller(tmp_path: Path) -> None:
    """`layerfs status | cat` waited for it."""
    program = """
import os, sys
from layerfs.sys.ask import ask
heard = os.open(sys.argv[1], os.O_RDWR)
print(ask([lambda: os.read(heard, 1)], 0.1), flush=True)
os._exit(0)
"""
    os.mkfifo(tmp_path / "fifo")
    fifo = os.open(tmp_path / "fifo", os.O_RDWR)
    command = [sys.executable, "-c", program, str(tmp_path / "fifo")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    os.write(fifo, b"x")  # it ends here
    os.close(fifo)
    assert done.stdout == "[None]\n"


def test_many_questions_are_asked_at_once() -> None:
    assert ask([lambda: None] * 300, 60) == [0] * 300
