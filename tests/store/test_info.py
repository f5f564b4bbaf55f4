"""What the ledger knows of a snapshot, in containerd's words."""

import pytest

from layerfs.store.info import NOTHING, Info, SnapshotKind, Usage


def test_kinds_have_the_numbers_and_words_of_containerd() -> None:
    assert {kind.word: kind.value for kind in SnapshotKind} == {"view": 1, "active": 2, "committed": 3}


def test_a_snapshot_of_which_only_name_and_kind_are_known_has_no_parent_and_no_labels() -> None:
    info = Info("key", SnapshotKind.ACTIVE)
    assert (info.parent, info.labels, info.created) == ("", {}, 0)
    assert Usage() == Usage(0, 0)


def test_the_empty_labels_that_all_share_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        NOTHING["a"] = "b"  # type: ignore[index]
