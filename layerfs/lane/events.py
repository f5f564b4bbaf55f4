"""Why a lane ends its wait, and what it has changed, without the compiled part: who lacks it still reads the names."""

from enum import IntEnum
from typing import NamedTuple


class LaneEvent(IntEnum):
    """What `Lane.wait` returns: `enum lane_event` of lane.h, and 0."""

    NOTHING = 0  # the time is over, or a signal came
    REQUEST = 1  # one request is on the pair, for libfuse
    OTHER = 2  # `other` is readable; with a `job` also: a request waits that the lane does not answer
    JOB = 3  # `job` is readable, and nothing else is there
    SLOW = 4  # answers wait for a disk: `Lane.slow` says where
    RAW = 5  # a request is here that libfuse does not serve: `Lane.raw` takes it
    WRITE = 6  # a WRITE is here: `Lane.writing` shows it, `Lane.written` answers it
    LIST = 7  # a listing is asked for of a directory that the lane does not have: `Lane.listing` says which


class Way(IntEnum):
    """How a lane waits for the next request: `enum lane_way` of lane.h."""

    SLEEPS = 0
    LOOKS = 1
    BESIDE = 2  # asleep, on the processor of whoever has asked last


class LaneEdit(IntEnum):
    """What a lane has done at a name of the upper: `enum lane_edit_kind` of lane.h."""

    MADE = 0  # a file is there, by itself
    COPIED = 1  # a copy of what the lowers have is there
    REMOVED = 2  # nothing is there, and nothing shows
    HIDDEN = 3  # a whiteout is there
    MADE_DIRECTORY = 4  # a directory is there, which the lane has at hand
    SET = 5  # a directory, which is told of by its number alone, has another owner or mode


class Durable(IntEnum):
    """How a copy gets to disk before it gets its name: `enum lane_durable` of lane.h."""

    VOLATILE = 0
    ORDERED = 1  # a journal brings the rest
    SYNCED = 2


class Owned(NamedTuple):
    """Which object a directory is, with its owner and mode."""

    device: int
    number: int
    mode: int
    uid: int
    gid: int


class Edited(NamedTuple):
    """A change of a name in a directory, of the file or directory with this number.

    `fd` is the descriptor of a directory that was made, and is to be closed by whoever takes it in; else -1. `shown` is
    what a directory's share of the upper is that was made or set.
    """

    kind: LaneEdit
    directory: int
    name: bytes
    number: int
    fd: int = -1
    shown: Owned | None = None
