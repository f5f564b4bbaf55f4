"""Layers that are there already: shared by ChainID, and by DiffID where they were unpacked alone."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.errors import NotReady
from layerfs.oci.copying import copy
from layerfs.snapshots.driver import PARENT_CHAIN, SnapshotKind
from layerfs.snapshots.maintenance import check
from layerfs.snapshots.sharing import ALONE, DIFF_ID, REF
from tests.contract.subjects import Subject, a_subject


@pytest.fixture(params=["overlay", "fuse", "xar"])
def subject(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Subject]:
    """A store of each driver that can put a layer on top of another at its commit."""
    with a_subject(request.param, scratch) as made:
        yield made


def wanted(chain: str, diff_id: str, below: str) -> dict[str, str]:
    """The labels with which containerd 2 asks for a layer."""
    return {REF: chain, DIFF_ID: diff_id, PARENT_CHAIN: below}


def unpacked_alone(subject: Subject) -> None:
    """Two images of one layer on top of different ones; the first has it unpacked."""
    subject.layer("1/base", a="1")
    subject.layer("2/base", b="2")
    labels = wanted("sha256:top1", "sha256:diff", "sha256:base1")
    subject.snapshots.prepare("key", labels=labels)
    layer = subject.snapshots.writable_layer("key").path
    Path(os.fsdecode(layer), "new").write_text("new")
    subject.snapshots.commit("1/top", "key", labels, parent="1/base")


def test_a_layer_that_was_unpacked_alone_is_staged_for_another_image(subject: Subject) -> None:
    unpacked_alone(subject)
    assert subject.snapshots.stat("1/top").labels[ALONE] == "sha256:diff"
    labels = wanted("sha256:top2", "sha256:diff", "sha256:base2")
    mounts = subject.snapshots.stage("key", labels)
    assert "ro" in mounts[-1].options
    assert mounts == subject.snapshots.mounts("key")
    assert subject.snapshots.stat("key").kind is SnapshotKind.ACTIVE
    subject.snapshots.commit("2/top", "key", labels, parent="2/base")
    assert subject.view("2/top") == {"b": "2", "new": "new"}
    assert subject.snapshots.usage("2/top") == subject.snapshots.usage("1/top")
    subject.snapshots.remove("1/top")
    subject.snapshots.cleanup()
    subject.reopen()
    assert subject.view("2/top") == {"b": "2", "new": "new"}


def test_a_layer_that_was_unpacked_alone_is_adopted_on_top_of_another(subject: Subject) -> None:
    unpacked_alone(subject)
    labels = wanted("sha256:top2", "sha256:diff", "sha256:base2")
    assert subject.snapshots.adopt("2/top", "sha256:top2", "2/base", labels)
    assert subject.view("2/top") == {"b": "2", "new": "new"}


def test_a_layer_that_was_unpacked_on_others_is_shared_by_its_chain_alone(subject: Subject) -> None:
    """What a tar becomes may depend on what is below: links into it, directories that it does not mention."""
    subject.layer("1/base", a="1")
    subject.layer("2/base", b="2")
    labels = wanted("sha256:top1", "sha256:diff", "sha256:base1")
    subject.snapshots.prepare("key", "1/base", labels)
    subject.snapshots.commit("1/top", "key", labels)
    other = wanted("sha256:top2", "sha256:diff", "sha256:base2")
    assert not subject.snapshots.adopt("2/top", "sha256:top2", "2/base", other)
    assert subject.snapshots.stage("key", other) == ()
    assert subject.snapshots.stage("key", labels)


def test_what_is_staged_is_nobodys_to_fill(subject: Subject) -> None:
    unpacked_alone(subject)
    subject.snapshots.stage("key", wanted("sha256:top2", "sha256:diff", "sha256:base2"))
    with pytest.raises(NotReady):
        subject.snapshots.writable_layer("key")
    with pytest.raises(NotReady):
        copy(subject.snapshots, "1/base", b"/a", "key", b"/a")
    with pytest.raises(NotReady):
        subject.snapshots.writable_layer("1/top")
    subject.snapshots.remove("key")
    assert subject.view("1/top") == {"a": "1", "new": "new"}
    assert check(subject.store, repair=False) == []


def test_what_is_staged_outlives_what_it_was_taken_from(subject: Subject) -> None:
    unpacked_alone(subject)
    labels = wanted("sha256:top2", "sha256:diff", "sha256:base2")
    subject.snapshots.stage("key", labels)
    subject.snapshots.remove("1/top")
    subject.snapshots.cleanup()
    subject.reopen()
    subject.snapshots.commit("2/top", "key", labels, parent="2/base")
    assert subject.view("2/top") == {"b": "2", "new": "new"}
    assert check(subject.store, repair=False) == []


@pytest.mark.parametrize("labels", [{}, {REF: "sha256:top1"}, wanted("sha256:x", "sha256:y", "sha256:z")])
def test_nothing_is_staged_for_who_does_not_ask_so(subject: Subject, labels: dict[str, str]) -> None:
    unpacked_alone(subject)
    assert subject.snapshots.stage("key", labels) == ()
    subject.snapshots.prepare("key")
