"""Looking ahead by threads: only where lookups have waited, only at what is no device, and never an error."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from layerfs.fuse import ahead
from layerfs.fuse.ahead import PROBE, Ahead
from layerfs.model import Stack
from layerfs.union.inodes import Directory
from layerfs.union.options import UnionOptions
from layerfs.union.union import Union

FILES = 40


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Directory]:
    for number in range(FILES):
        (tmp_path / f"f{number:02}").write_bytes(b"data")
    with closing(Union.open(Stack((os.fsencode(tmp_path),)), UnionOptions())) as union:
        union.names(1)
        yield union.root()


def _looked_at(ahead_: Ahead, seen: list[bytes], count: int) -> list[bytes]:
    deadline = time.monotonic() + 20
    while len(seen) < count:
        assert time.monotonic() < deadline, seen
        time.sleep(0.001)
    return sorted(seen)


def test_several_waits_in_one_directory_send_threads_to_its_names(
    root: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    monkeypatch.setattr(ahead, "_stat", lambda _, name: seen.append(name))
    looking = Ahead()
    for _ in range(PROBE - 1):
        looking.waited(root)
    assert looking._threads == []
    looking.waited(root)
    assert _looked_at(looking, seen, FILES) == sorted(root.listing or {})


def test_waits_in_other_directories_count_for_themselves(root: Directory) -> None:
    looking, other = Ahead(), Directory(2, root, b"d", (1,))
    for _ in range(PROBE):
        looking.waited(root)
        looking.waited(other)
    assert looking._threads == []


def test_advice_that_comes_too_late_ends_no_thread(root: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Semaphore(0)

    def gone(_: int, name: bytes) -> None:
        done.release()
        raise FileNotFoundError(2, "gone", name)

    monkeypatch.setattr(ahead, "_stat", gone)
    looking = Ahead()
    looking.look(root, sorted(root.listing or {}))
    assert all(done.acquire(timeout=20) for _ in range(FILES))
    assert all(thread.is_alive() for thread in looking._threads)
