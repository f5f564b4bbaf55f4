"""The one guard between handlers and pyfuse3: whatever happens in a handler becomes an errno of that request.

pyfuse3 catches nothing but FUSEError; any other exception ends its worker with the request unanswered, and the client
then waits for ever. The same happens when a handler returns what pyfuse3 cannot use, so the guard looks at that too.
"""

import errno
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, InodeT, Operations, ReaddirToken, StatvfsData

from layerfs.fuse.failures import errno_for

Handler = Callable[..., Awaitable[Any]]
Answer = type | tuple[type, ...]
C = TypeVar("C", bound=type[Operations])

ANSWERS: dict[str, Answer] = {
    **dict.fromkeys(("lookup", "getattr", "setattr", "mknod", "mkdir", "symlink", "link"), EntryAttributes),
    **dict.fromkeys(("opendir", "write", "access", "poll"), int),
    **dict.fromkeys(("readlink", "getxattr"), bytes),
    "create": tuple,
    "listxattr": (list, tuple),
    "open": FileInfo,
    "read": (bytes, bytearray, memoryview),
    "statfs": StatvfsData,
}
"""Handlers whose answer pyfuse3 uses, and what it can use."""

SILENT = frozenset("unlink rmdir rename flush release fsync readdir releasedir fsyncdir setxattr removexattr".split())
"""Handlers of which pyfuse3 only wants to know that they ended."""

UNANSWERED = frozenset({"forget"})
"""Handlers that may not even raise FUSEError: the kernel expects no answer."""

log = logging.getLogger(__name__)


def guard(operations: C) -> C:
    """Wrap every handler that the class defines or inherits (class decorator); pyfuse3's own defaults are left."""
    for name in (*ANSWERS, *SILENT, *UNANSWERED):
        handler = getattr(operations, name)
        if handler is not getattr(Operations, name, None):
            setattr(operations, name, _guarded(name, handler))
    return operations


def _guarded(name: str, handler: Handler) -> Handler:
    if name in ANSWERS:
        return _answering(handler, ANSWERS[name])
    return _ending(handler) if name in SILENT else _unanswered(handler)


def _answering(handler: Handler, expected: Answer) -> Handler:
    @functools.wraps(handler)
    async def guarded(*args: Any) -> Any:
        try:
            answer = await handler(*args)
            if isinstance(answer, expected):
                return answer
        except FUSEError:
            raise
        except Exception as error:
            raise FUSEError(errno_for(error, handler.__qualname__)) from None
        log.error("%s returned %r", handler.__qualname__, answer)
        raise FUSEError(errno.EIO)

    return guarded


def _ending(handler: Handler) -> Handler:
    @functools.wraps(handler)
    async def guarded(*args: Any) -> None:
        try:
            await handler(*args)
        except FUSEError:
            raise
        except Exception as error:
            raise FUSEError(errno_for(error, handler.__qualname__)) from None

    return guarded


def _unanswered(handler: Handler) -> Handler:
    @functools.wraps(handler)
    async def guarded(*args: Any) -> None:
        try:
            await handler(*args)
        except Exception:
            log.exception("%s failed", handler.__qualname__)

    return guarded


def blank_entry(timeout: float) -> EntryAttributes:
    """Return an answer to be filled in, which the kernel may keep for `timeout` seconds."""
    entry = EntryAttributes()
    entry.entry_timeout = entry.attr_timeout = timeout
    entry.st_blksize = 4096
    return entry


def reply_bare(token: ReaddirToken, name: bytes, cookie: int) -> bool:
    """Reply a name that cannot be looked at now: number 0 means "ask me later" in READDIRPLUS."""
    entry = blank_entry(0)
    entry.st_ino = InodeT(0)
    return pyfuse3.readdir_reply(token, name, entry, cookie)
