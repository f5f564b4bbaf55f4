"""The guard: what a handler may do wrong, and what the kernel is told."""

import errno
import inspect
from collections.abc import Awaitable
from typing import Any

import pyfuse3
import pytest
import trio
from pyfuse3 import EntryAttributes, FUSEError, RequestContext

from layerfs.errors import NotFound
from layerfs.fuse.operations import Operations
from layerfs.fuse.reply import ANSWERS, SILENT, UNANSWERED, guard

HANDLERS = {name for name, member in vars(pyfuse3.Operations).items() if inspect.iscoroutinefunction(member)}


def handlers(error: BaseException | None = None, answer: object = None) -> Any:
    """Guarded operations in which every handler raises `error`, or returns `answer`."""

    async def handler(self: object, *args: object) -> Any:
        if error is not None:
            raise error
        return answer

    members = dict.fromkeys(HANDLERS, handler)
    return guard(type("Bad", (pyfuse3.Operations,), members))()


def test_the_tables_name_every_handler_of_pyfuse3_once() -> None:
    assert sorted([*ANSWERS, *SILENT, *UNANSWERED]) == sorted(HANDLERS)


def test_every_handler_of_our_operations_is_guarded() -> None:
    own = {name for name in HANDLERS if getattr(Operations, name) is not getattr(pyfuse3.Operations, name)}
    assert {"lookup", "getattr", "read", "write", "forget"} <= own
    unguarded = {name for name in own if not hasattr(getattr(Operations, name), "__wrapped__")}
    assert not unguarded


@pytest.mark.parametrize("name", sorted(HANDLERS - UNANSWERED))
@pytest.mark.parametrize(
    ("error", "number", "logged"),
    [
        (OSError(errno.ENOSPC, "full"), errno.ENOSPC, False),
        (FileNotFoundError(errno.ENOENT, "gone"), errno.ENOENT, False),
        (OSError("no number"), errno.EIO, True),
        (MemoryError(), errno.ENOMEM, False),
        (NotFound("no such layer"), errno.ENOENT, False),
        (RecursionError(), errno.EIO, True),
        (KeyError(7), errno.EIO, True),
        (ExceptionGroup("both", [ValueError()]), errno.EIO, True),
        (FUSEError(errno.ENOSYS), errno.ENOSYS, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_every_exception_becomes_an_errno(
    name: str, error: Exception, number: int, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(FUSEError) as caught:
        await getattr(handlers(error), name)()
    assert caught.value.errno == number
    assert bool(caplog.records) == logged


@pytest.mark.parametrize("name", sorted(ANSWERS))
async def test_an_answer_that_pyfuse3_cannot_use_is_an_error(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(FUSEError) as caught:
        await getattr(handlers(answer=None), name)()
    assert caught.value.errno == errno.EIO
    assert "returned None" in caplog.text


@pytest.mark.parametrize("error", [FUSEError(errno.ENOENT), OSError(errno.EIO, "disk"), ZeroDivisionError()])
async def test_forget_raises_nothing_at_all(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    await handlers(error).forget([])
    assert "failed" in caplog.text


async def test_cancellation_passes() -> None:
    class Sleeper(pyfuse3.Operations):
        async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
            await trio.sleep_forever()
            raise AssertionError

    with trio.move_on_after(0) as scope:
        operations = guard(Sleeper)()
        handler: Awaitable[Any] = operations.getattr(1, None)  # type: ignore[arg-type]
        await handler
    assert scope.cancelled_caught
