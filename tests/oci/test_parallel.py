"""Blobs side by side: each digest once, the largest first, and an error begins no further blob."""

import signal
import threading
import time

import pytest

from layerfs.oci.digest import digest_of
from layerfs.oci.documents import Descriptor
from layerfs.oci.parallel import GRACE, WORKERS, Stop, Stopped, for_each_blob
from tests.waiting import PATIENCE


def blob(size: int) -> Descriptor:
    return Descriptor("application/octet-stream", digest_of(b"%d" % size), size)


def test_each_digest_is_handled_once_the_largest_first() -> None:
    begun: list[int] = []
    for_each_blob([blob(size) for size in (1, 9, 5, 9, 1)], lambda each: begun.append(each.size), Stop())
    assert sorted(begun) == [1, 5, 9]
    assert begun[0] == 9


def test_blobs_are_handled_side_by_side() -> None:
    together = threading.Barrier(WORKERS, timeout=PATIENCE)

    def wait(_: Descriptor) -> None:
        together.wait()

    for_each_blob(map(blob, range(WORKERS)), wait, Stop())
    assert not together.broken


def test_an_error_ends_it_and_begins_no_further_blob() -> None:
    begun: list[int] = []

    def fail(each: Descriptor) -> None:
        begun.append(each.size)
        raise OSError(28, "no space")

    with pytest.raises(OSError, match="no space"):
        for_each_blob(map(blob, range(1000)), fail, Stop())
    assert len(begun) < 1000


@pytest.mark.parametrize("cause", ["error", "Ctrl-C"])
def test_what_has_begun_is_told_to_end_and_a_system_call_is_not_waited_for(cause: str) -> None:
    """All blobs in flight were waited for, however long the network took."""
    stop, held, ended = Stop(), threading.Event(), threading.Event()
    begun = threading.Barrier(3, timeout=PATIENCE)

    def work(each: Descriptor) -> None:
        begun.wait()
        if each.size == 3:
            held.wait(PATIENCE)  # as a read of a network that is gone: nobody hears `stop` here
        elif each.size == 2:
            try:
                stop.wait(PATIENCE)
            except Stopped:
                ended.set()
                raise
        elif cause == "error":
            raise OSError(28, "no space")
        else:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    begin = time.monotonic()
    with pytest.raises(OSError if cause == "error" else KeyboardInterrupt):
        for_each_blob(map(blob, (1, 2, 3)), work, stop)
    assert ended.is_set()
    assert GRACE <= time.monotonic() - begin < PATIENCE / 2
    held.set()


def test_stop_passes_what_its_caller_raises() -> None:
    asked = iter([None, InterruptedError()])

    def check() -> None:
        if (error := next(asked)) is not None:
            raise error

    with pytest.raises(InterruptedError):
        Stop(check).wait(PATIENCE)
