"""Drivers by name."""

import pytest

from layerfs.errors import InvalidArgument, NotFound
from layerfs.snapshots import registry
from tests.contract.subjects import DRIVERS, THIRD_PARTY


def test_ours_come_first_and_a_third_partys_by_the_same_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(THIRD_PARTY))
    found = registry.names()
    assert found[0] == "overlay"
    assert set(DRIVERS) <= set(found)
    assert registry.load("copying", b"/nowhere").capabilities == frozenset()


def test_unknown_and_impossible_names_are_refused() -> None:
    with pytest.raises(NotFound, match="there are: overlay"):
        registry.load("nonesuch", b"/nowhere")
    for name in ("", "../x", "A", "a/b"):
        with pytest.raises(InvalidArgument):
            registry.load(name, b"/nowhere")
