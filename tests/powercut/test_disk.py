"""The disk itself: a cut keeps what was flushed and loses, now and then, what was not."""

import os
import random
from collections.abc import Callable
from pathlib import Path

from tests.powercut.disk import Disk

CUTS = 8


def put(path: Path, data: bytes, flush: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, data)
    if flush:
        os.fsync(fd)
    os.close(fd)


def test_a_cut_keeps_what_was_flushed_and_loses_what_was_not(disk: Callable[[str], Disk]) -> None:
    made = disk("ext4")
    for number in range(10):
        with made.promise(f"flushed{number}"):
            put(made.root / f"flushed{number}", b"%d" % number * 10_000, flush=True)
        with made.promise(f"cached{number}"):
            put(made.root / f"cached{number}", b"%d" % number * 10_000, flush=False)
    lost = set()
    for cut in made.cuts("itself", CUTS):
        for (name,) in cut.promised:
            path = cut.root / name
            whole = path.exists() and path.read_bytes() == name[-1].encode() * 10_000
            assert whole or name.startswith("cached")
            lost |= {name} if not whole else set()
    assert lost


def test_a_write_after_the_last_flush_may_be_torn(disk: Callable[[str], Disk]) -> None:
    """Blocks that stood there before are overwritten in place; a cut leaves some sectors old and some new."""
    made = disk("ext4")
    path = made.root / "file"
    put(path, b"o" * 40_960, flush=True)
    before = made.position()
    put(path, b"n" * 40_960, flush=True)
    found = set()
    written = made.moments(before)[0]
    for seed in range(CUTS):
        with made.cut(written, random.Random(seed)) as cut:
            content = (cut.root / "file").read_bytes()
            assert len(content) == 40_960
            found.add("".join(sorted(set(content.decode()))))
    assert found == {"o", "no", "n"}
    with made.cut(before, random.Random(0)) as cut:
        assert (cut.root / "file").read_bytes() == b"o" * 40_960
