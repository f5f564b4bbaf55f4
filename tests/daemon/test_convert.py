"""Values as messages, and back."""

from layerfs.daemon.convert import info_of, mounts_from, mounts_of
from layerfs.model import Mount
from layerfs.store.info import Info, SnapshotKind


def test_times_are_exact() -> None:
    made = info_of(Info("n", SnapshotKind.COMMITTED, "p", {"a": "b"}, 1_700_000_000_123_456_789, 5))
    assert (made.created_at.seconds, made.created_at.nanos) == (1_700_000_000, 123_456_789)
    assert (made.updated_at.seconds, made.updated_at.nanos, made.kind) == (0, 5, 3)


def test_mounts_survive_the_round_trip() -> None:
    mounts = (Mount("overlay", "overlay", ("upperdir=/a", "lowerdir=/b:/c")), Mount("bind", "/x", ("ro",), "y"))
    assert mounts_from(mounts_of(mounts)) == mounts
