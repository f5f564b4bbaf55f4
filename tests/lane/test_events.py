"""The names of a lane's events have the numbers that the compiled part gives them."""

from layerfs.lane._lane import lib
from layerfs.lane.events import Durable, LaneEdit, LaneEvent, Way


def test_edits_and_ways_have_the_numbers_of_the_compiled_part() -> None:
    for each in (*LaneEdit, *Durable, *Way):
        assert getattr(lib, f"LANE_{each.name}") == each


def test_events_have_the_numbers_of_the_compiled_part() -> None:
    told = {name.removeprefix("LANE_"): getattr(lib, name) for name in dir(lib) if name.startswith("LANE_")}
    others = {name for numbers in (LaneEdit, Durable, Way) for name in numbers.__members__}
    places = {"ASK", "GONE", "DIRECTORY", "GONE_LOWER", "GONE_UPPER", *others}
    assert {name: number for name, number in told.items() if name not in places} | {"NOTHING": 0} == {
        event.name: event.value for event in LaneEvent
    }
    assert [event.value for event in LaneEvent] == list(range(len(LaneEvent)))  # `Lane.wait` finds them by index
