"""Byte work leaves the loop here: copy-up data, large reads and writes, fsync.

Law: what runs in a thread touches descriptors and bytes, never the union's tables.
"""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

THREADS = 8  # guessed: enough to keep a disk's queue busy, each may hold a megabyte
_limit = trio.CapacityLimiter(THREADS)


async def run(function: Callable[[*Arguments], T], *args: *Arguments) -> T:
    """Run `function` in a thread and return what it returns; a cancelled caller still waits for it to end."""
    return await trio.to_thread.run_sync(function, *args, limiter=_limit)
