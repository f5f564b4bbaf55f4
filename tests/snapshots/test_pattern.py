"""Regular expressions in linear time: they find what Python's finds, and refuse what Go's refuse."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerfs.errors import InvalidArgument
from layerfs.snapshots.pattern import Pattern

PATTERNS = [
    "", "a", "abc", "a.c", "^a", "c$", "^$", "a*", "a+b", "ab?c", "a{2,3}", "(ab)+", "a|b|", "[a-c]+$", "[^a]",
    r"\d+", r"\bab\b", r"\w\s\w", "(?i)ABC", "(?:a|b)*c", "a*?b", "x{0}", r"[\d-]", "[]a]", "(a|b){1,2}c", r"\.",
    "(?i:A)b", "(?s)a.b",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=st.text(alphabet="abcABC 1-.", max_size=8))
def test_finds_what_python_finds(pattern: str, text: str) -> None:
    assert Pattern.parse(pattern).found_in(text) == bool(re.search(pattern, text, re.ASCII)), text


def test_end_is_the_very_end_as_in_go() -> None:
    assert not Pattern.parse("a$").found_in("a\n")


@pytest.mark.parametrize(
    "pattern", ["[", "(", "*", r"(a)\1", "(?=a)", "(?<!a)b", "(?x)a", "a{1000}{1000}", "(?P=x)", "a" * 4097, "(" * 999]
)
def test_refuses(pattern: str) -> None:
    with pytest.raises(InvalidArgument):
        Pattern.parse(pattern)


def test_takes_no_longer_for_a_pattern_that_python_never_comes_back_from() -> None:
    assert not Pattern.parse("^(a+)+$").found_in("a" * 200 + "!")
    assert not Pattern.parse("^(a|aa|a*)*c$").found_in("a" * 200)
