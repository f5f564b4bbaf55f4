"""What is collected of what was unpacked for images; tests/crash/test_image.py kills who unpacks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.snapshots.leftovers import HOLD, labels_of, unpacking
from layerfs.snapshots.maintenance import collect
from tests.contract.subjects import Subject, a_subject


@pytest.fixture
def subject(scratch: Path) -> Iterator[Subject]:
    with a_subject("overlay", scratch) as found:
        yield found


def unpack(subject: Subject, name: str, parent: str = "") -> None:
    subject.snapshots.prepare(f"extract-1 {name}", parent, labels_of(name))
    subject.snapshots.commit(name, f"extract-1 {name}", labels_of(name))


def names(subject: Subject) -> list[str]:
    return [info.name for info in subject.snapshots.walk()]


def test_only_what_was_unpacked_and_is_held_by_nothing_goes(subject: Subject) -> None:
    for name, parent in (("a", ""), ("b", "a"), ("c", "b"), ("held", ""), ("below", "")):
        unpack(subject, name, parent)
    subject.snapshots.prepare("extract-2 d", "c", labels_of("d"))
    subject.store.records.put("image", "i", "sha256:" + "0" * 64, [HOLD + "overlay/held"])
    subject.snapshots.prepare("work", "below")
    theirs = {"containerd.io/snapshot.ref": "theirs"}
    subject.snapshots.prepare("extract-3 theirs", "", theirs)
    subject.snapshots.commit("theirs", "extract-3 theirs", theirs)
    subject.snapshots.prepare("extract-4 theirs", "", theirs)
    subject.snapshots.prepare("copied", "", labels_of("a"))
    assert collect(subject.store).snapshots == 4
    assert names(subject) == ["below", "copied", "extract-4 theirs", "held", "theirs", "work"]
    subject.snapshots.remove("work")
    collect(subject.store)
    assert "below" not in names(subject)


def test_nothing_goes_while_somebody_unpacks(subject: Subject) -> None:
    with unpacking(subject.store), unpacking(subject.store):
        unpack(subject, "a")
        assert collect(subject.store).snapshots == 0
    assert collect(subject.store).snapshots == 1
