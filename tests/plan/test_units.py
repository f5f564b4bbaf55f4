"""Circles become one unit, and changes reach units through sources and dependencies."""

import pytest

from layerfs.plan.graph import Module
from layerfs.plan.units import chance_of, weight_of
from tests.plan.graphs import units_of


def chances(*modules: Module) -> dict[str, float]:
    units = units_of(*modules)
    return {units.name(unit): round(chance_of(weight), 9) for unit, weight in enumerate(units.weights())}


def test_a_circle_is_one_unit() -> None:
    units = units_of(Module("a", 1, depends=("b",)), Module("b", 2, depends=("a",)), Module("c", 4, depends=("b",)))
    assert (units.members, units.sizes, units.depends) == (((0, 1), (2,)), (3, 4), ((), (0,)))


def test_a_change_reaches_dependants_once_by_all_ways() -> None:
    top = Module("top", 1, depends=("left", "right"), chance=0)
    sides = [Module(name, 1, depends=("base",), chance=0) for name in ("left", "right")]
    assert chances(Module("base", 1, chance=0.25), *sides, top) == dict.fromkeys(("base", "left", "right", "top"), 0.25)


def test_what_does_not_rebuild_changes_alone() -> None:
    found = chances(Module("a", 1, chance=0.5), Module("b", 1, depends=("a",), chance=0.1, rebuilds=False))
    assert found == {"a": 0.5, "b": 0.1}


def test_modules_of_one_source_change_with_the_greatest_chance() -> None:
    found = chances(Module("a", 1, chance=0.2, source="s"), Module("b", 1, chance=0.4, source="s"))
    assert found == {"a": 0.4, "b": 0.4}


def test_many_different_chances_are_rounded_by_little() -> None:
    modules = [Module(f"m{n:03}", 1, depends=("m000",) if n else (), chance=n / 1000) for n in range(500)]
    found = chances(*modules)
    assert found["m300"] == pytest.approx(0.3, abs=0.01)


def test_weights_and_chances_are_the_same_thing() -> None:
    assert chance_of(weight_of(0.3)) == pytest.approx(0.3)
    assert chance_of(weight_of(1)) == pytest.approx(1)
