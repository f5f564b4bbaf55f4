"""A wrong driver breaks neither the ledger nor another driver."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from layerfs.errors import LayerfsError
from layerfs.snapshots.driver import Snapshot
from layerfs.snapshots.maintenance import check
from layerfs.snapshots.snapshotter import Snapshotter
from tests.contract.subjects import Subject, a_subject


@pytest.fixture
def subject(scratch: Path) -> Iterator[Subject]:
    with a_subject("copying", scratch) as found:
        yield found


class Bug(Exception):
    """What no driver should raise."""


def fail(*_: object) -> None:
    raise Bug


METHODS: dict[str, Callable[[Snapshotter], object]] = {
    "create": lambda s: s.prepare("new", "base"),
    "mounts": lambda s: s.prepare("new", "base"),
    "usage": lambda s: s.commit("new", "work"),
    "discard": lambda s: [do() for do in (partial(s.remove, "work"), s.cleanup)],
}


@pytest.mark.parametrize("method", METHODS)
def test_bug_in_a_driver_changes_nothing(method: str, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    subject.layer("base", a="1")
    subject.snapshots.prepare("work", "base")
    other = subject.store.snapshotter("overlay")
    other.prepare("theirs")
    before = {info.name for info in subject.snapshots.walk()}
    with monkeypatch.context() as patch:
        patch.setattr(subject.snapshots.driver, method, fail)
        with pytest.raises(Bug):
            METHODS[method](subject.snapshots)
    assert {info.name for info in subject.snapshots.walk()} in (before, before - {"work"})
    subject.snapshots.cleanup()
    assert check(subject.store, repair=False) == []
    assert [info.name for info in other.walk()] == ["theirs"]
    assert subject.view("base") == {"a": "1"}


@pytest.mark.parametrize("answer", [(), None, ("mount",)])
def test_what_is_no_mount_is_refused(answer: object, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject.snapshots.driver, "mounts", lambda snapshot: answer)
    with pytest.raises(LayerfsError, match="copying returns no mounts"):
        subject.snapshots.prepare("new")
    assert list(subject.snapshots.walk()) == []


def test_driver_that_dies_half_way_leaves_nothing(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(snapshot: Snapshot) -> None:
        os.mkdir(snapshot.directory + b"/tree")
        os.mkdir(snapshot.directory + b"/tree/deep")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(subject.snapshots.driver, "create", half)
    with pytest.raises(OSError, match="No space"):
        subject.snapshots.prepare("new")
    subject.snapshots.cleanup()
    root = subject.root / "drivers/copying"
    assert {name: os.listdir(root / name) for name in ("making", "snapshots", "trash")} == {
        "making": [],
        "snapshots": [],
        "trash": [],
    }
