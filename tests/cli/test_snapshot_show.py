"""The tree of parents."""

from layerfs.cli.snapshot_show import tree_lines
from layerfs.store.info import Info, Kind


def test_tree_shows_each_below_its_parent() -> None:
    infos = [
        Info("a", Kind.COMMITTED),
        Info("b", Kind.COMMITTED, "a"),
        Info("c", Kind.ACTIVE, "b"),
        Info("d", Kind.VIEW, "a"),
        Info("e", Kind.COMMITTED, "not among them"),
    ]
    assert list(tree_lines(infos)) == ["a", "├─ b", "│  └─ c  (active)", "└─ d  (view)", "e"]


def test_chain_of_any_length_is_shown() -> None:
    infos = [Info(f"{n}", Kind.COMMITTED, f"{n - 1}" if n else "") for n in range(3000)]
    lines = list(tree_lines(infos))
    assert lines[-1].endswith("└─ 2999")
    assert max(map(len, lines)) < 200
