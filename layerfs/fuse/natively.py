"""Whether requests are answered natively, and how a lane is opened.

A lane is used unless somebody forbids it (`--no-lane`), each request is to be logged, there is no compiled part, or the
sockets of this host take too little at once. Everything works without one. To import one takes some milliseconds, so a
mount that is hardly asked has none: it begins after a number of requests.
"""

import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Final

from layerfs.fuse import wire
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.device import passing_pages
from layerfs.sys.files import content

if TYPE_CHECKING:
    from layerfs.lane.lane import Lane
    from layerfs.sys.intercept import Intercept

COMPILED: Final = "layerfs.lane._lane"
SWITCH: Final = "LAYERFS_LANE"  # in the environment, for every server, whatever options say: 1 at once, 0 never
URING_SWITCH: Final = "LAYERFS_URING"  # in the environment: 0 has every request come over the device
URING: Final = "/sys/module/fuse/parameters/enable_uring"
PAYS: Final = 64  # requests before there is a lane; a short mount has fewer
PAYS_IMPORTED: Final = 8  # where it was imported beforehand (mounts/standby.py); then it costs 0.1 ms
LEAST_PAGES: Final = 16  # of data in one message; with fewer, large reads and writes would cost more than a lane brings
RING_PAGES: Final = 32  # at least, with a ring: an attribute of 64 KiB and its name are one message
FILES: Final = 1024  # descriptors of open files that a lane holds at most, and no more than an eighth of all; guessed

_set_aside: "Intercept | None" = None  # where libfuse's reader puts what pyfuse3 does not know


def pages_with_lane(config: ServeConfig) -> int:
    """Return how many pages of data a message may have where there is to be a lane; 0 where there is to be none."""
    said = os.environ.get(SWITCH)
    if said == "0" or not (config.lane or said == "1") or config.debug:
        return 0
    if compiled_part() is None:
        return 0
    pages = passing_pages()
    return pages if pages >= LEAST_PAGES else 0


@cache
def compiled_part() -> str | None:
    """Return where the compiled part is; None where it is missing."""
    from importlib.machinery import PathFinder  # importlib.util takes 4 ms

    package, _, _ = COMPILED.rpartition(".")
    spec = PathFinder.find_spec(COMPILED, __import__(package, fromlist=["__path__"]).__path__)
    return spec.origin if spec is not None else None


def intercept() -> None:
    """Have requests that pyfuse3 does not know set aside, if that is possible here; before pyfuse3 is imported."""
    global _set_aside
    from importlib.util import find_spec

    from layerfs.sys.intercept import Intercept

    library, user = compiled_part(), find_spec("pyfuse3")
    if library is None or user is None or user.origin is None:
        return
    try:
        _set_aside = Intercept(library, user.origin, wire.RAW)
    except OSError as error:
        import logging  # 5 ms that no start waits for

        logging.getLogger(__name__).info("fallocate and its like are not served: %s", error)


def intercepted() -> "Intercept | None":
    """Return where libfuse's reader puts what pyfuse3 does not know; None where libfuse answers it."""
    return _set_aside


def is_imported() -> bool:
    """Tell whether the compiled part was imported beforehand."""
    return COMPILED in sys.modules


def pays() -> int:
    """Return how many requests there are before there is a lane."""
    if os.environ.get(SWITCH) == "1":
        return 0
    return PAYS_IMPORTED if is_imported() else PAYS


def open_lane(device: int, timeout: float, pair: int = -1) -> "Lane":
    """Open a lane whose answers the kernel may keep for `timeout` [s]; without a pair, requests for others are raw."""
    from layerfs.lane.lane import Lane
    from layerfs.sys.limits import raise_open_files

    files = min(FILES, raise_open_files() // 8)
    lane = Lane(device, pair, passing_room(), round(timeout * 1e9), files)
    lane.set_raw(wire.RAW)
    return lane


def open_ring(device: int, timeout: float, pages: int) -> "Lane | None":
    """Open a lane that can speak FUSE over io_uring, where root has enabled that and this process may; else None.

    Before FUSE_INIT is answered: once a ring was promised the kernel sends nothing until there is one.
    """
    if pages < RING_PAGES or os.environ.get(URING_SWITCH) == "0" or not _is_uring_enabled():
        return None
    lane = open_lane(device, timeout)
    if lane.open_ring(pages * wire.PAGE):
        return lane
    lane.close()
    return None


def _is_uring_enabled() -> bool:
    try:
        return content(URING).strip() in (b"Y", b"1")
    except OSError:  # an older kernel, or no /sys
        return False


def passing_room() -> int:
    """Return how many bytes a message may have.

    The kernel fills it with FORGETs, and a batch of them is to pass through the socket like any other message.
    """
    return passing_pages() * wire.PAGE + wire.ROOM - wire.MAX_WRITE
