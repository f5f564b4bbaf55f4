"""Keys and labels as they arrive."""

import pytest

from layerfs.errors import InvalidArgument
from layerfs.snapshots.validate import (
    ALL_LABELS,
    LONGEST_KEY,
    LONGEST_LABEL,
    checked_key,
    checked_labels,
    updated_labels,
)


@pytest.mark.parametrize("key", ["", "\udcff", "ü" * (LONGEST_KEY // 2 + 1)])
def test_bad_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidArgument):
        checked_key(key)


def test_labels_without_value_are_dropped() -> None:
    assert checked_labels({"a": "1", "b": ""}) == {"a": "1"}


def test_labels_are_bounded() -> None:
    assert len(checked_labels({"a": "1" * (LONGEST_LABEL - 1)})) == 1
    many = {f"{number:05}": "x" * 4000 for number in range(ALL_LABELS // 4000 + 1)}
    for labels in ({"a": "1" * LONGEST_LABEL}, {"": "x"}, {"a": "\udc80"}, many):
        with pytest.raises(InvalidArgument):
            checked_labels(labels)


def test_fields_say_which_labels_change() -> None:
    old = {"a": "1", "b": "2"}
    assert updated_labels(old, {"c": "3"}, ()) == {"c": "3"}
    assert updated_labels(old, {"a": "9", "c": "3"}, ("labels.a", "labels.b")) == {"a": "9"}
    assert updated_labels(old, {"x.y": "3"}, ("labels.x.y",)) == old | {"x.y": "3"}
    with pytest.raises(InvalidArgument):
        updated_labels(old, {}, ("labelsx",))
