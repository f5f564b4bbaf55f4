"""Attributes fetched ahead by threads: only where lookups have waited, and never an error."""

import threading
import time

import pytest

from layerfs.fuse import prefetch_attributes
from layerfs.fuse.prefetch_attributes import PROBE, AttributePrefetch
from layerfs.union.inodes import Directory
from tests.fuse.conftest import FILES
from tests.waiting import PATIENCE


def _looked_at(seen: list[bytes], count: int) -> list[bytes]:
    deadline = time.monotonic() + PATIENCE
    while len(seen) < count:
        assert time.monotonic() < deadline, seen
        time.sleep(0.001)
    return sorted(seen)


def test_several_waits_in_one_directory_send_threads_to_its_names(
    root: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    monkeypatch.setattr(prefetch_attributes, "_stat", lambda _, name: seen.append(name))
    looking = AttributePrefetch()
    for _ in range(PROBE - 1):
        looking.waited(root)
    assert looking._threads == []
    looking.waited(root)
    assert _looked_at(seen, FILES) == sorted(root.names())


def test_waits_in_other_directories_count_for_themselves(root: Directory) -> None:
    looking, other = AttributePrefetch(), Directory(2, root, b"d", ())
    for _ in range(PROBE):
        looking.waited(root)
        looking.waited(other)
    assert looking._threads == []


def test_advice_that_comes_too_late_ends_no_thread(root: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Semaphore(0)

    def gone(_: int, name: bytes) -> None:
        done.release()
        raise FileNotFoundError(2, "gone", name)

    monkeypatch.setattr(prefetch_attributes, "_stat", gone)
    looking = AttributePrefetch()
    looking.fetch(root, sorted(root.names()))
    assert all(done.acquire(timeout=PATIENCE) for _ in range(FILES))
    assert all(thread.is_alive() for thread in looking._threads)
