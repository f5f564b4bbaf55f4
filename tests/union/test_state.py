"""What one union holds."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from layerfs.union import state
from layerfs.union.attrs import Change
from layerfs.union.reading import Outcome, Reading
from layerfs.union.state import Overlay, Writable
from tests.oracle.trees import file
from tests.union.box import Box


def test_a_union_without_an_upper_is_not_writable(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"f")}, writable=False) as box:
        assert type(box.ov) is Overlay and box.ov.upper is None and box.union.read_only
        changes = (lambda: box.create(b"n"), lambda: box.unlink(b"f"), lambda: box.change(b"f", Change(mode=0)))
        for change in changes:
            with pytest.raises(OSError) as caught:
                change()
            assert caught.value.errno == errno.EROFS
        assert box.read(b"f") == b"f"


def test_names_in_the_scratch_directory_are_never_given_twice(scratch: Path) -> None:
    with Box(scratch, {b"f": file()}) as box:
        assert isinstance(box.ov, Writable)
        work = box.ov.upper.work
        assert len({work.name() for _ in range(5)}) == 5


def test_a_front_end_reads_with_its_own_helpers_and_is_told_of_changes(scratch: Path) -> None:
    with Box(scratch, {b"d/f": file(b"f")}, {b"d/g": file()}) as box:
        ran: list[int] = []
        told: list[int] = []

        def run(jobs: Sequence[Reading], parts: object) -> list[Outcome]:
            results = [job() for job in jobs]
            ran.append(len(results))
            return results

        box.union.read_with(run)
        box.union.watch(told.append)
        with box.node(b"d") as node, box.node(b"d/f") as inner:
            box.write(b"d/f", b"F")
            assert {node.ino, inner.ino} <= set(told)
        assert 2 in ran or 3 in ran


def test_a_directory_of_many_whiteouts_is_cleared_by_whoever_has_time(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removing 100,000 whiteouts inside rmdir kept everybody else waiting for a second."""
    monkeypatch.setattr(state, "FEW", 2)
    names = [b"d/%d" % index for index in range(5)]
    with Box(scratch, {name: file() for name in names}) as box:
        for name in names:
            box.unlink(name)
        assert box.union.clearing() is None
        box.rmdir(b"d")
        held = sum(len(files) for _, _, files in os.walk(os.path.join(box.work, b"work")))
        clear = box.union.clearing()
        assert held >= 5 and clear is not None and box.union.clearing() is None
        clear()
        assert os.listdir(os.path.join(box.work, b"work")) in ([], [b"whiteout"])
        assert box.again().tree() == {}
