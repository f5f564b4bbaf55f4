"""Rows on wide and on narrow screens, and in a pipe: nothing is ever cut."""

import pytest

from layerfs.cli.table import lay_out

NAMES = ("mountpoint", "health", "pid")
ROWS = [["/a/long/mountpoint", "serving", "12"], ["/b", "silent", "-"]]
DETAILS = [[("upper", "/upper"), ("why", "because of this and that")], [("upper", "-"), ("why", "so")]]


def lines(width: int | None) -> list[str]:
    return list(lay_out(NAMES, ROWS, DETAILS, width))


@pytest.mark.parametrize("width", [None, 80, 200])
def test_a_row_is_a_line_in_a_pipe_and_where_it_fits(width: int | None) -> None:
    assert lines(width) == [
        "mountpoint          health   pid  upper   why",
        "/a/long/mountpoint  serving  12   /upper  because of this and that",
        "/b                  silent   -    -       so",
    ]


def test_details_go_below_first() -> None:
    assert lines(36) == [
        "mountpoint          health   pid",
        "/a/long/mountpoint  serving  12",
        "  upper /upper",
        "  why because of this and that",
        "/b                  silent   -",
        "  why so",
    ]


def test_the_first_cell_then_has_a_line_of_its_own() -> None:
    assert lines(20) == [
        "mountpoint",
        "  health   pid",
        "/a/long/mountpoint",
        "  serving  12",
        "  upper /upper",
        "  why because of",
        "    this and that",
        "/b",
        "  silent   -",
        "  why so",
    ]


@pytest.mark.parametrize("width", range(1, 70, 3))
def test_nothing_is_lost_at_any_width(width: int) -> None:
    shown = " ".join(" ".join(lines(width)).split())
    for cell in ("/a/long/mountpoint", "serving", "12", "/upper", "silent"):
        assert cell in shown
    for word in "because of this and that".split():
        assert word in shown
