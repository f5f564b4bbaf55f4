"""Byte work in threads, with a loop beside it that has something to do, or has not."""

import os
import threading
from collections.abc import Iterator

import pytest
import trio

from layerfs.fuse import threads
from tests.waiting import PATIENCE


class Idle:
    """A loop in which nothing else ever happens."""

    def linger(self, fd: int) -> bool:
        os.set_blocking(fd, True)
        os.eventfd_write(fd, os.eventfd_read(fd))
        return True


class Busy:
    """A loop that always has something to do."""

    def linger(self, fd: int) -> bool:
        return False


@pytest.fixture(params=[Idle, Busy])
def pool(request: pytest.FixtureRequest) -> Iterator[None]:
    with threads.running(request.param()):
        yield


async def test_without_a_pool_trio_runs_it() -> None:
    assert await threads.run(threading.get_ident) != threading.get_ident()


@pytest.mark.usefixtures("pool")
async def test_a_result_comes_back_from_another_thread() -> None:
    assert await threads.run(threading.get_ident) != threading.get_ident()
    assert await threads.run(divmod, 17, 5) == (3, 2)


@pytest.mark.usefixtures("pool")
async def test_an_exception_comes_back() -> None:
    with pytest.raises(FileNotFoundError):
        await threads.run(os.stat, b"/absent")


@pytest.mark.usefixtures("pool")
async def test_a_thousand_calls_by_sixteen_tasks_all_come_back() -> None:
    results = []

    async def task(number: int) -> None:
        for turn in range(64):
            results.append(await threads.run(divmod, number, turn + 1))

    async with trio.open_nursery() as nursery:
        for number in range(16):
            nursery.start_soon(task, number)
    assert sorted(results) == sorted(divmod(number, turn + 1) for number in range(16) for turn in range(64))
    names = [thread.name for thread in threading.enumerate()]
    assert 0 < names.count("layerfs-bytes") <= threads.THREADS


async def test_tasks_run_beside_a_slow_call() -> None:
    over = threading.Event()
    with threads.running(Busy()):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(threads.run, over.wait, 20)
            await trio.testing.wait_all_tasks_blocked()
            over.set()


async def test_a_cancelled_caller_waits_for_the_end() -> None:
    go, done = threading.Event(), []

    def work() -> None:
        go.wait(PATIENCE)
        done.append("work")

    async def caller() -> None:
        await threads.run(work)
        done.append("caller")

    with threads.running(Busy()):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            go.set()
    assert done == ["work", "caller"]
