"""A child process that performs operations on one mount, so that a hang of the mount becomes a timeout here."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from tests.oracle.operations import Actor, Operation

_FORK = multiprocessing.get_context("fork")


class Hung(Exception):
    """The mount did not answer in time."""


class Agent:
    """Has an actor perform operations in a child process, where `make` makes it; use as a context manager."""

    def __init__(self, make: Callable[[], Actor], *, timeout: float = 30.0) -> None:
        self.timeout = timeout  # s
        self._pipe, far = _FORK.Pipe()
        self._process = _FORK.Process(target=_serve, args=(far, self._pipe, make), daemon=True)
        self._process.start()
        far.close()

    def __enter__(self) -> "Agent":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, operation: Operation) -> None:
        """Start an operation; `receive` waits for it."""
        self._pipe.send(operation)

    def receive(self) -> tuple[str, Any]:
        if not self._pipe.poll(self.timeout):
            raise Hung(f"no answer within {self.timeout} s")
        try:
            answer: tuple[str, Any] = self._pipe.recv()
        except EOFError:
            raise Hung("the process that used the mount died") from None
        if answer[0] == "bug":
            raise AssertionError(answer[1])
        return answer

    def perform(self, operation: Operation) -> tuple[str, Any]:
        self.send(operation)
        return self.receive()

    def close(self) -> None:
        """End the child; one that is stuck in the kernel is left to the mount's abort."""
        self._pipe.close()
        self._process.join(2)
        if self._process.is_alive() and self._process.pid:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.join(2)


def _serve(pipe: Connection, near: Connection, make: Callable[[], Actor]) -> None:
    near.close()
    os.umask(0)
    try:
        if os.getuid() == 0 and _is_first_namespace():
            os.setgroups([])
        actor = make()
    except Exception as error:
        pipe.send(("bug", f"cannot begin: {error!r}"))
        return
    try:
        while True:
            operation = pipe.recv()
            pipe.send(_guarded(actor, operation))
    except (EOFError, BrokenPipeError):
        actor.close()


def _guarded(actor: Actor, operation: Operation) -> tuple[str, Any]:
    try:
        return actor.perform(operation)
    except Exception as error:  # a bug of the harness must be seen in the parent, not hang it
        return "bug", f"{operation}: {error!r}"


def _is_first_namespace() -> bool:
    with open("/proc/self/uid_map") as source:
        return source.read().split() == ["0", "0", "4294967295"]
