"""Command lines taken apart by hand."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from layerfs.cli.argv import take_apart, working_directory
from layerfs.errors import NotFound

SWITCHES = {"-f": "foreground", "--foreground": "foreground", "-q": "quiet"}
VALUED = {"-o": "options", "--upper": "upper"}


@pytest.mark.parametrize(
    ("line", "paths", "values", "switches"),
    [
        ("a b m", ["a", "b", "m"], {}, set()),
        ("a -f m --upper u", ["a", "m"], {"upper": ["u"]}, {"foreground"}),
        ("-oro a -o rw,dev m", ["a", "m"], {"options": ["ro", "rw,dev"]}, set()),
        ("--upper=u=v a", ["a"], {"upper": ["u=v"]}, set()),
        ("--foreground -q -- -f", ["-f"], {}, {"foreground", "quiet"}),
    ],
)
def test_words_are_taken_by_their_meaning(
    line: str, paths: Sequence[str], values: dict[str, list[str]], switches: set[str]
) -> None:
    words = take_apart(line.split(), SWITCHES, VALUED)
    assert words is not None
    assert (words.paths, words.values, words.switches) == (paths, values, switches)


@pytest.mark.parametrize("line", ["-x a", "--up u a", "a -o", "--upper", "-fq a"])
def test_what_is_not_understood_is_left_to_argparse(line: str) -> None:
    assert take_apart(line.split(), SWITCHES, VALUED) is None


def test_the_last_value_of_an_option_counts() -> None:
    words = take_apart("--upper a --upper b".split(), SWITCHES, VALUED)
    assert words is not None
    assert (words.last("upper"), words.last("options")) == ("b", None)


def test_a_working_directory_that_is_gone_matters_to_relative_paths_only(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = scratch / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    assert working_directory(b"a") == os.fsencode(gone)
    gone.rmdir()
    assert working_directory(b"/a", b"/b") == b"/"
    with pytest.raises(NotFound, match="the working directory is gone"):
        working_directory(b"/a", b"b")
