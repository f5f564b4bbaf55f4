"""Why a lane ends its wait, without the compiled part: a host that lacks it still reads the names."""

from enum import IntEnum


class LaneEvent(IntEnum):
    """What `Lane.wait` returns: `enum lane_event` of lane.h, and 0."""

    NOTHING = 0  # the time is over, or a signal came
    REQUEST = 1  # one request is on the pair, for libfuse
    OTHER = 2  # `other` is readable; with a `job` also: a request waits that the lane does not answer
    JOB = 3  # `job` is readable, and nothing else is there
    SLOW = 4  # answers wait for a disk: `Lane.slow` says where
    RAW = 5  # a request is here that libfuse does not serve: `Lane.raw` takes it
    WRITE = 6  # a WRITE is here: `Lane.writing` shows it, `Lane.written` answers it
