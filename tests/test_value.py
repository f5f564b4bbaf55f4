"""Values behave as frozen, slotted dataclasses do."""

import copy
import pickle

import pytest

from layerfs.value import fields_of, replace, value


@value
class Point:
    """Two numbers and a word."""

    x: int
    y: int = 2
    word: str = "none"

    @property
    def sum(self) -> int:
        """Both together."""
        return self.x + self.y


@value
class Other:
    """As many fields, another class."""

    x: int
    y: int = 2
    word: str = "none"


def test_fields_are_given_by_place_by_name_or_by_default() -> None:
    assert Point(1) == Point(1, 2) == Point(x=1, word="none") == Point(1, y=2)
    assert (Point(1).sum, Point(1, 5).sum) == (3, 6)
    assert fields_of(Point(1)) == ("x", "y", "word")


@pytest.mark.parametrize(("given", "named"), [((), {}), ((1, 2, "3", 4), {}), ((1,), {"z": 1}), ((1,), {"x": 1})])
def test_wrong_fields_are_a_type_error(given: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Point"):
        Point(*given, **named)  # type: ignore[arg-type]


def test_nothing_can_be_changed_or_added() -> None:
    point = Point(1)
    for name in ("x", "new"):
        with pytest.raises(AttributeError):
            setattr(point, name, 1)
    with pytest.raises(AttributeError):
        del point.y
    assert not hasattr(point, "__dict__")


def test_values_are_equal_hashed_shown_copied_and_changed_by_content() -> None:
    assert Point(1) != Point(2)
    assert Point(1) != Other(1)  # type: ignore[comparison-overlap]
    assert len({Point(1), Point(1, 2), Other(1)}) == 2
    assert repr(Point(1)) == "Point(x=1, y=2, word='none')"
    assert replace(Point(1), y=3) == Point(1, 3)
    assert pickle.loads(pickle.dumps(Point(1))) == copy.deepcopy(Point(1)) == Point(1)
    match Point(1, 7):
        case Point(x, y):
            assert (x, y) == (1, 7)
