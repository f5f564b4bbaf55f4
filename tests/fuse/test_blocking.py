"""What answers await where there is no loop: nothing is suspended, and what takes long is left to others."""

import types
from collections.abc import Generator

import pytest

from layerfs.fuse.blocking import LONG, Inline, TooLong, finish


async def answer(blocking: Inline) -> int:
    async with blocking.lock():
        event = blocking.event()
        event.set()
        await event.wait()
        await blocking.turn()
        await blocking.rest()
        return sum(await blocking.run(divmod, 17, 5)) + await blocking.copy(len, b"four")


@pytest.fixture
def blocking() -> Inline:
    blocking = Inline()
    blocking.begin(float("inf"))  # no request takes long
    return blocking


def test_an_answer_runs_to_its_end_at_once(blocking: Inline) -> None:
    assert finish(answer(blocking)) == 3 + 2 + 4
    assert blocking.is_crowded()


def test_what_takes_long_is_put_off_unless_nobody_comes_after(blocking: Inline) -> None:
    blocking.begin(-LONG)
    for _ in range(2):
        with pytest.raises(TooLong):
            finish(answer(blocking))
        with pytest.raises(TooLong):
            blocking.admit_long()
    blocking.is_last = True
    blocking.admit_long()
    assert finish(answer(blocking)) == 3 + 2 + 4


@types.coroutine
def wait() -> Generator[None, None, None]:
    yield


def test_an_answer_that_waits_for_a_loop_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="no loop"):
        finish(wait())
