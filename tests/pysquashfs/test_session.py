"""Whatever ends the writing of an image ends its threads."""

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.pysquashfs import (
    Compressor,
    FileSpec,
    WriteOptions,
    write_image,
)
from tests.pysquashfs.write_facts import DIRECTORY, FILE

TREE = [FileSpec(b"d", DIRECTORY), FileSpec(b"f", FILE, data=b"1")]


class Stop(Exception):
    """Raised by a test in the middle of something."""


def endless(reason: BaseException, after: int = 40) -> Iterator[bytes]:
    """Content that fails when blocks are already with the threads."""
    for number in range(after):
        yield bytes([number]) * 100_000
    raise reason


@pytest.mark.parametrize("reason", [Stop(), KeyboardInterrupt(), OSError(errno.EIO, "of the source")], ids=repr)
@pytest.mark.parametrize("threads", [1, 4])
def test_what_an_iterator_raises_passes_and_leaves_nothing(reason: BaseException, threads: int, scratch: Path) -> None:
    (scratch / "image").write_bytes(b"old")
    tasks = set(os.listdir("/proc/self/task"))
    with pytest.raises(type(reason)) as caught:
        entries = [*TREE, FileSpec(b"x", FILE, data=endless(reason))]
        write_image(scratch / "image", entries, WriteOptions(block_size=4096, threads=threads))
    assert caught.value is reason
    assert os.listdir(scratch) == ["image"]
    assert (scratch / "image").read_bytes() == b"old"
    assert set(os.listdir("/proc/self/task")) <= tasks


def test_interrupt_ends_the_wait_for_the_last_blocks(scratch: Path) -> None:
    """All content is given, and ten seconds of compression left, when the signal comes."""
    size, given = 60 << 20, threading.Event()

    def interrupt() -> None:
        given.wait()
        os.kill(os.getpid(), signal.SIGINT)

    def watch(done: int) -> None:
        if done == size:
            given.set()

    killer = threading.Thread(target=interrupt)
    killer.start()
    text = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    entry = FileSpec(b"x", FILE, data=(text * (size // len(text) + 1))[:size])
    options = WriteOptions(Compressor.XZ, level=9, block_size=1 << 20, threads=2)
    before = time.process_time()
    with pytest.raises(KeyboardInterrupt):
        write_image(scratch / "image", [entry], options, on_progress=watch)
    assert time.process_time() - before < 6  # s of both CPUs; a block takes a fifth of one
    killer.join()
    assert os.listdir(scratch) == []


def test_what_progress_raises_passes_and_leaves_nothing(scratch: Path) -> None:
    def stop(done: int) -> None:
        if done >= 20:
            raise Stop

    with pytest.raises(Stop):
        write_image(scratch / "image", (FileSpec(b"%d" % n, FILE, data=b"12") for n in range(100)), on_progress=stop)
    assert os.listdir(scratch) == []
