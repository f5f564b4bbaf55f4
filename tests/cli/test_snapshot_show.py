"""The tree of parents."""

from layerfs.cli.snapshot_show import tree_lines
from layerfs.store.info import Info, SnapshotKind


def test_tree_shows_each_below_its_parent() -> None:
    infos = [
        Info("a", SnapshotKind.COMMITTED),
        Info("b", SnapshotKind.COMMITTED, "a"),
        Info("c", SnapshotKind.ACTIVE, "b"),
        Info("d", SnapshotKind.VIEW, "a"),
        Info("e", SnapshotKind.COMMITTED, "not among them"),
    ]
    assert list(tree_lines(infos)) == ["a", "├─ b", "│  └─ c  (active)", "└─ d  (view)", "e"]


def test_chain_of_any_length_is_shown() -> None:
    infos = [Info(f"{n}", SnapshotKind.COMMITTED, f"{n - 1}" if n else "") for n in range(3000)]
    lines = list(tree_lines(infos))
    assert lines[-1].endswith("└─ 2999")
    assert max(map(len, lines)) < 200
