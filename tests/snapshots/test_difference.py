"""What snapshots change, over a driver of changes and over one of whole trees."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.snapshots.difference import difference
from tests.contract.subjects import Subject, a_subject


@pytest.fixture(params=["overlay", "btrfs", "copying"])
def subject(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Subject]:
    with a_subject(request.param, scratch) as found:
        yield found


def test_difference_is_the_same_whatever_the_driver_keeps(subject: Subject) -> None:
    subject.layer("base", a="1", b="1", c="1")
    subject.snapshots.prepare("work", "base")
    with subject.at("work") as target:
        (target / "a").unlink()
        (target / "b").chmod(0o600)
        (target / "sub").mkdir()
        (target / "sub/new").symlink_to("x")
    shown = [(change.action.value, change.path) for change in difference(subject.snapshots, "work")]
    assert shown == [("D", b"/a"), ("M", b"/b"), ("A", b"/sub"), ("A", b"/sub/new")]
    assert difference(subject.snapshots, "base", "base") == []
    assert [change.path for change in difference(subject.snapshots, "base")] == [b"/a", b"/b", b"/c"]
