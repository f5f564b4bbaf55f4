"""Circles are found, however long they are."""

from layerfs.plan.components import components


def test_components_come_after_what_they_depend_on() -> None:
    assert components([[1], [2], [0, 3], [4], []]) == [[4], [3], [0, 1, 2]]


def test_two_circles_with_a_bridge_stay_two() -> None:
    assert components([[1], [0, 2], [3], [2]]) == [[2, 3], [0, 1]]


def test_a_circle_and_a_chain_of_100000_need_no_recursion() -> None:
    count = 100_000
    assert len(components([[(node + 1) % count] for node in range(count)])) == 1
    assert len(components([[node + 1] for node in range(count - 1)] + [[]])) == count
