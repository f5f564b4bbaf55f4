"""The gate under workers shaped like pyfuse3's: take the lock, wait for the device, give the lock back, handle."""

import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from types import SimpleNamespace

import pytest
import trio

from layerfs.fuse.event_loop import Gate, ReadersLock, Workers

LONG = 120  # s; a test that takes this long hangs
Handle = Callable[[bytes], Awaitable[None]]


class Rig:
    """A gate that serves one end of a socket pair; the test is the kernel at the other."""

    def __init__(self) -> None:
        self.kernel, self.device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.met: list[str] = []
        self.gate = Gate(self._hand_over)
        self.steps = 0

    def _hand_over(self, natively: bool) -> bool:
        self.met.append("device")
        return True

    def send(self, *requests: bytes) -> None:
        for request in requests:
            self.kernel.send(request)

    async def work(self, handle: Handle) -> None:
        """What pyfuse3's _session_loop does; the request `end` ends the worker, as ENODEV does."""
        fd = self.device.fileno()
        while True:
            try:
                async with self.gate.Lock():
                    await self.gate.wait_readable(fd)
            except self.gate.ClosedResourceError:
                return
            request = os.read(fd, 100)
            if request == b"end":
                self.send(b"end")  # for the next worker
                return
            await handle(request)

    def serve(self, handle: Handle, workers: int = 1, beside: Callable[[], Awaitable[None]] | None = None) -> None:
        """Run the loop until every worker has ended; the first two requests are the introduction's."""

        async def main() -> None:
            with trio.fail_after(LONG):
                async with self.gate.open_nursery() as nursery, trio.open_nursery() as others:
                    for number in range(workers):
                        nursery.start_soon(self.work, handle, name=f"worker-{number}")
                    if beside is not None:
                        others.start_soon(beside)

        trio.run(main, instruments=[self.gate])


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    with rig.kernel, rig.device:
        yield rig


def test_requests_that_need_no_waiting_are_handled_in_one_step_of_one_task(rig: Rig) -> None:
    tasks = []

    async def handle(request: bytes) -> None:
        tasks.append((trio.lowlevel.current_task().name, trio.lowlevel.current_task()._schedule_points))

    rig.send(b"init", *[b"x"] * 50, b"end")
    rig.serve(handle, workers=3)
    assert len(tasks) == 51
    assert len(set(tasks[-40:])) == 1, "the scheduler has been between them"


def test_device_is_met_after_the_first_request(rig: Rig) -> None:
    seen: list[tuple[bytes, int]] = []

    async def handle(request: bytes) -> None:
        seen.append((request, len(rig.met)))

    rig.send(b"init", b"first", b"end")
    rig.serve(handle)
    assert seen == [(b"init", 0), (b"first", 1)]


def test_a_suspended_handler_leaves_the_device_to_another_worker(rig: Rig) -> None:
    seen: list[bytes] = []
    answered = trio.Event()

    async def handle(request: bytes) -> None:
        if request == b"slow":
            await answered.wait()
        seen.append(request)
        if request == b"quick":
            answered.set()
            rig.send(b"end")

    rig.send(b"init", b"slow", b"quick")
    rig.serve(handle, workers=2)
    assert seen == [b"init", b"quick", b"slow"]


def test_a_result_from_a_thread_wakes_a_gate_that_waits_for_a_silent_device(rig: Rig) -> None:
    asleep = threading.Event()

    async def handle(request: bytes) -> None:
        if request == b"thread":
            await trio.to_thread.run_sync(asleep.wait, 0.05)
            rig.send(b"end")

    rig.send(b"init", b"thread")
    rig.serve(handle, workers=2)


def test_a_deadline_is_kept_while_the_device_is_silent(rig: Rig) -> None:
    async def handle(request: bytes) -> None:
        if request == b"nap":
            await trio.sleep(0.05)
            rig.send(b"end")

    rig.send(b"init", b"nap")
    rig.serve(handle, workers=2)


def test_a_deadline_is_kept_while_requests_come_without_a_pause(rig: Rig) -> None:
    count = 0
    over = False

    async def handle(request: bytes) -> None:
        nonlocal count, over
        if request == b"nap":
            await trio.sleep(0.05)
            over = True
        elif request == b"again":
            count += 1
            rig.send(b"end" if over else b"again")

    rig.send(b"init", b"nap", b"again")
    rig.serve(handle, workers=2)
    assert count > 1


def test_other_tasks_run_while_requests_come_without_a_pause(rig: Rig) -> None:
    done = False

    async def handle(request: bytes) -> None:
        rig.send(b"end" if done else b"again")

    async def beside() -> None:
        nonlocal done
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        done = True

    rig.send(b"init")
    rig.serve(handle, beside=beside)


def test_another_descriptor_wakes_the_gate(rig: Rig) -> None:
    ours, theirs = socket.socketpair()

    async def handle(request: bytes) -> None:
        if request == b"go":
            threading.Timer(0.05, theirs.send, [b"!"]).start()

    async def beside() -> None:
        await trio.lowlevel.wait_readable(ours)
        rig.send(b"end")

    with ours, theirs:
        rig.send(b"init", b"go")
        rig.serve(handle, beside=beside)


def test_notify_closing_sends_every_worker_home(rig: Rig) -> None:
    async def handle(request: bytes) -> None:
        """Answer."""

    async def beside() -> None:
        await trio.sleep(0.05)
        rig.gate.notify_closing(rig.device.fileno())

    rig.send(b"init", b"x")
    rig.serve(handle, workers=3, beside=beside)


def test_a_worker_that_fails_is_logged_starts_again_and_takes_no_other_with_it(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[bytes] = []
    failed = trio.Event()

    async def handle(request: bytes) -> None:
        if request == b"slow":
            await failed.wait()
        if request == b"bug":
            failed.set()
            rig.send(b"after", b"end")
            raise ZeroDivisionError
        seen.append(request)

    rig.send(b"init", b"slow", b"bug")
    rig.serve(handle, workers=2)
    assert sorted(seen) == [b"after", b"init", b"slow"]
    assert "failed and starts again" in caplog.text and "ZeroDivisionError" in caplog.text


async def test_a_request_that_was_taken_back_restarts_the_worker_silently() -> None:
    tries = 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise BlockingIOError(11, "fuse_session_receive_buf failed")

    async with trio.open_nursery() as nursery:
        Workers(nursery).start_soon(work, name="worker")
    assert tries == 3


async def test_a_cancelled_waiter_leaves_the_lock_to_the_next() -> None:
    lock = ReadersLock()
    order: list[str] = []

    async def take(name: str, scope: trio.CancelScope) -> None:
        with scope:
            async with lock:
                order.append(name)

    scopes = [trio.CancelScope() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        async with lock:
            for number, scope in enumerate(scopes):
                nursery.start_soon(take, str(number), scope)
            await trio.testing.wait_all_tasks_blocked()
            scopes[0].cancel()
            await trio.testing.wait_all_tasks_blocked()
        while len(order) < 2:
            lock.pass_on()
            await trio.lowlevel.checkpoint()
    assert sorted(order) == ["1", "2"]


class _Aside:
    """Where libfuse's reader puts what is not for libfuse."""

    def __init__(self) -> None:
        self.message = b""

    @property
    def size(self) -> SimpleNamespace:
        return SimpleNamespace(value=len(self.message))

    def take(self) -> bytes:
        message, self.message = self.message, b""
        return message


@pytest.mark.parametrize("introduced", [True, False])
def test_what_libfuse_does_not_serve_is_answered_beside_the_others(rig: Rig, introduced: bool) -> None:
    """A long one holds up nobody; the first may come on the introduction's socket."""
    aside = _Aside()
    order: list[bytes] = []
    go = trio.Event()

    async def serve_raw(message: bytes) -> None:
        await go.wait()
        order.append(message)

    async def handle(request: bytes) -> None:
        if request.startswith(b"raw"):
            aside.message = request
        else:
            order.append(request)
        if request == b"last":
            go.set()

    rig.gate.set_aside = aside  # type: ignore[assignment]
    rig.gate.begin_raw = lambda message: partial(serve_raw, message)
    rig.send(*([b"raw 0"] if introduced else [b"init"]), b"held", b"raw 1", b"one", b"raw 2", b"last", b"end")
    rig.serve(handle)
    assert [each for each in order if not each.startswith(b"raw")][-2:] == [b"one", b"last"]
    assert order.index(b"last") < order.index(b"raw 1") and b"raw 2" in order
    assert (b"raw 0" in order) == introduced
