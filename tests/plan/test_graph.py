"""Graphs are checked: what is wrong is refused by name."""

import pytest

from layerfs.errors import InvalidArgument
from layerfs.plan.graph import Module, make_graph


def test_modules_stand_by_name_and_dependencies_by_number() -> None:
    graph = make_graph("g", [Module("b", 1, depends=("a", "a", "b")), Module("a", 2)])
    assert [module.name for module in graph.modules] == ["a", "b"]
    assert graph.depends == ((), (0,))
    assert graph.size == 3


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ([], "g has no modules"),
        ([Module("a", 1), Module("a", 2)], "g has two modules named a"),
        ([Module("a", -1)], "module a of g has a negative size: -1"),
        ([Module("a", 1, files=-2)], "module a of g has a negative number of files: -2"),
        ([Module("a", 1 << 60)], "module a of g has an impossible size"),
        ([Module("a", 1, depends=("z",))], "module a of g depends on z, which is unknown"),
        ([Module("a", 1, chance=1.5)], "module a of g changes with probability 1.5"),
        ([Module("a", 1, chance=float("nan"))], "module a of g changes with probability nan"),
        ([Module("", 1)], "a module of g has no name"),
    ],
)
def test_wrong_modules_are_refused_by_name(modules: list[Module], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        make_graph("g", modules)
