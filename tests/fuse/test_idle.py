"""When a server takes an unused mount away: after a whole time without requests, if whoever it asks lets it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from layerfs.fuse.config import Idle
from layerfs.fuse.event_loop import Gate
from layerfs.fuse.server import LOOKS, _leave_when_idle

SECONDS = 8.0
LOOK = SECONDS / LOOKS  # s between two looks


@dataclass
class Served:
    """A gate that counts requests, and somebody who unmounts, or does not; times are of the trio's clock."""

    answers: list[bool | OSError]
    requests: int = 0
    asked: list[float] = field(default_factory=list)
    unused: list[bool] = field(default_factory=list)
    before_leaving: Callable[[], None] = lambda: None

    def leave(self, unused: Callable[[], bool]) -> bool:
        self.asked.append(trio.from_thread.run_sync(trio.current_time))
        self.before_leaving()
        self.unused.append(unused())
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    async def watch(self) -> None:
        await _leave_when_idle(Idle(SECONDS, self.leave), cast(Gate, self))


async def test_an_unused_mount_goes_after_the_time(autojump_clock: MockClock) -> None:
    served = Served([True])
    begin = trio.current_time()
    await served.watch()
    assert [time - begin for time in served.asked] == [SECONDS]
    assert served.unused == [True]


async def test_each_request_begins_the_time_anew(autojump_clock: MockClock) -> None:
    served = Served([True])
    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.watch)
        for _ in range(5):
            await trio.sleep(SECONDS * 0.9)
            served.requests += 1
        last = trio.current_time() - begin
    (left,) = (time - begin for time in served.asked)
    assert last + SECONDS <= left <= last + SECONDS + LOOK


async def test_a_mount_in_use_is_left_alone_for_as_long_again(autojump_clock: MockClock) -> None:
    served = Served([False, False, True])
    begin = trio.current_time()
    await served.watch()
    assert [time - begin for time in served.asked] == [SECONDS, 2 * SECONDS, 3 * SECONDS]


async def test_a_request_that_comes_while_leaving_is_told_of(autojump_clock: MockClock) -> None:
    served = Served([False, True])

    def ask() -> None:
        served.requests += len(served.asked) == 1

    served.before_leaving = ask
    await served.watch()
    assert served.unused == [False, True]


async def test_what_cannot_be_unmounted_is_logged_and_tried_again(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    served = Served([PermissionError(1, "not permitted"), True])
    await served.watch()
    assert len(served.asked) == 2
    assert "idle, but cannot unmount" in caplog.text
