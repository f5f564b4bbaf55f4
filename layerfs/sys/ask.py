"""Calls that may block for ever (statfs on a dead server), made in a child process that can be abandoned.

A filesystem whose server reads requests and answers none holds whoever asks, beyond the reach of SIGKILL
(request_wait_answer in fs/fuse/dev.c): a thread that asks keeps its process from ending. The child has nothing of ours
that somebody waits for; it ends when the answers have come, or with the server.
"""

import os
import select
import struct
import time
from collections.abc import Callable, Sequence
from threading import Thread, stack_size
from typing import Final

from layerfs.sys.descriptors import STDIO, close_all_but

_ANSWER: Final = struct.Struct("=II")  # which question, and its errno or 0
_STACK: Final = 256 << 10  # bytes; a question is one system call


def ask(questions: Sequence[Callable[[], object]], timeout: float) -> list[int | None]:
    """Ask all questions at once, in a child; return for each 0, the errno that it raised, or None after `timeout` [s].

    Only in a process of one thread.
    """
    answers: list[int | None] = [None] * len(questions)
    if not questions:
        return answers
    heard, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(heard)
            _ask_each(questions, said)
        finally:
            os._exit(0)
    os.close(said)
    try:
        _listen(heard, answers, time.monotonic() + timeout)
    finally:
        os.close(heard)
    if None not in answers:
        os.waitpid(pid, 0)
    return answers


def _listen(heard: int, answers: list[int | None], deadline: float) -> None:
    """Fill in the answers that come in time."""
    poll = select.poll()
    poll.register(heard, select.POLLIN)
    while None in answers and poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        answer = os.read(heard, _ANSWER.size)
        if not answer:
            return
        number, code = _ANSWER.unpack(answer)
        answers[number] = code


def _ask_each(questions: Sequence[Callable[[], object]], said: int) -> None:
    """Ask each question in a thread of its own; let go of the caller's terminal and pipes before."""
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    close_all_but((*STDIO, said))  # locks, and devices whose end somebody waits for
    stack_size(_STACK)
    threads = [Thread(target=_ask, args=(number, question, said)) for number, question in enumerate(questions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _ask(number: int, question: Callable[[], object], said: int) -> None:
    code = 0
    try:
        question()
    except OSError as error:
        code = error.errno or 0
    os.write(said, _ANSWER.pack(number, code))
