"""What an exception is to the kernel: an errno, which its request fails with. A bug is logged, and EIO.

pyfuse3 is not needed for this; reply.py guards its handlers with it.
"""

import errno
from collections.abc import Callable
from typing import Any

from layerfs.errors import LayerfsError
from layerfs.fuse.wire import errno_of
from layerfs.sys.logs import logger


def answered(work: Callable[..., int], *arguments: Any) -> tuple[int, int]:
    """Return (0, result) of a piece of work, or (errno, 0)."""
    try:
        return 0, work(*arguments)
    except Exception as error:
        return errno_for(error, work.__qualname__), 0


def errno_for(error: Exception, what: str) -> int:
    """Return the errno that stands for an exception; a bug, of `what`, is logged."""
    if isinstance(error, OSError | LayerfsError) and error.errno:
        return errno_of(error.errno)
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    logger(__name__).error("%s failed", what, exc_info=error)
    return errno.EIO
