"""Regular expressions from clients, matched in time linear in pattern and text, whatever they are.

Python's `re` tries one way after the other, so a pattern of twenty characters can keep it busy for a century; Go's,
which containerd's filters are written for, walks all ways at once (Thompson's construction), and so does this.
Understood is what both have: characters and escapes, classes, groups, alternatives, repetition, anchors, the flags (?i)
and (?s). What only Python has (references back, looking around) is refused as Go refuses it. Python's own parser reads
the pattern.
"""

import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Final, Self

from layerfs.errors import InvalidArgument

# The parser has no public name before Python 3.13; what it returns has not changed since 1.5.
from re import _constants as op  # type: ignore[attr-defined]  # isort: skip
from re import _parser as parser  # type: ignore[attr-defined]  # isort: skip

LONGEST: Final = 4096  # characters of a pattern
MOST_STATES: Final = 5000  # of the automaton; repetition multiplies them. Go's bound is 1000 repetitions

_Test = Callable[[str], bool]
_WORD: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_SPACE: Final = frozenset("\t\n\f\r ")
_DIGITS: Final = frozenset("0123456789")


class _State:
    """One state: what it consumes (a character, the condition of an anchor, or nothing), and where it leads."""

    __slots__ = ("anchor", "takes", "to")

    def __init__(self, takes: _Test | None = None, anchor: Callable[[str, int], bool] | None = None) -> None:
        self.takes = takes
        self.anchor = anchor
        self.to: list[_State] = []


class Pattern:
    """A regular expression."""

    def __init__(self, start: _State, end: _State) -> None:
        self._start = start
        self._end = end

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a pattern; InvalidArgument if it is none, is too large, or asks for what Go's has not."""
        if len(text) > LONGEST:
            raise InvalidArgument(f"a regular expression has {len(text)} characters; {LONGEST} are the most")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "possible nested set": it is Go's meaning that counts
                parsed = parser.parse(text, re.ASCII)
        except (re.error, OverflowError, RecursionError, ValueError) as error:
            raise InvalidArgument(f'bad regular expression "{text}": {error}') from None
        flags = parsed.state.flags & ~(re.ASCII | re.UNICODE)
        if flags & ~(re.IGNORECASE | re.DOTALL):
            raise InvalidArgument("of the flags of regular expressions only (?i) and (?s) are understood")
        builder = _Builder(bool(flags & re.IGNORECASE), bool(flags & re.DOTALL))
        start, end = builder.sequence(parsed)
        return cls(start, end)

    def found_in(self, text: str) -> bool:
        """Tell whether the pattern is somewhere in a text."""
        states: set[_State] = set()
        for at in range(len(text) + 1):
            states = _closure({*states, self._start}, text, at)
            if self._end in states:
                return True
            if at < len(text):
                char = text[at]
                states = {next_ for state in states if state.takes and state.takes(char) for next_ in state.to}
        return False


def _closure(states: Iterable[_State], text: str, at: int) -> set[_State]:
    """Return the states that are reached without taking a character."""
    reached, waiting = set[_State](), list(states)
    while waiting:
        state = waiting.pop()
        if state in reached:
            continue
        reached.add(state)
        if state.takes is None and (state.anchor is None or state.anchor(text, at)):
            waiting += state.to
    return reached


_Part = tuple[_State, _State]  # where a part begins and where it ends


class _Builder:
    """Builds the automaton from the tree of Python's parser."""

    def __init__(self, ignore_case: bool, any_line: bool) -> None:
        self._ignore_case = ignore_case
        self._any_line = any_line
        self._count = 0

    def sequence(self, items: Iterable[tuple[Any, Any]]) -> _Part:
        """Return the automaton of items, one after the other."""
        start = end = self._state()
        for code, argument in items:
            first, last = self._item(code, argument)
            end.to.append(first)
            end = last
        return start, end

    def _item(self, code: Any, argument: Any) -> _Part:
        if code in (op.MAX_REPEAT, op.MIN_REPEAT):
            return self._repeat(*argument)
        if code is op.SUBPATTERN:
            return self._group(argument)
        if code is op.BRANCH:
            return self._branch(argument[1])
        if code is op.AT:
            return self._anchor(argument)
        return self._character(self._test(code, argument))

    def _repeat(self, least: int, most: Any, items: Any) -> _Part:
        start = end = self._state()
        for _ in range(least):
            first, last = self.sequence(items)
            end.to.append(first)
            end = last
        if most is op.MAXREPEAT:
            first, last = self.sequence(items)
            end.to.append(first)
            out = self._state()
            last.to += [first, out]
            end.to.append(out)
            return start, out
        out = self._state()
        for _ in range(most - least):
            end.to.append(out)
            first, last = self.sequence(items)
            end.to.append(first)
            end = last
        end.to.append(out)
        return start, out

    def _group(self, argument: Any) -> _Part:
        _, added, removed, items = argument
        if (added | removed) & ~re.IGNORECASE:
            raise InvalidArgument("within a regular expression only the flag (?i) is understood")
        before = self._ignore_case
        self._ignore_case = (before or bool(added & re.IGNORECASE)) and not removed & re.IGNORECASE
        try:
            return self.sequence(items)
        finally:
            self._ignore_case = before

    def _branch(self, branches: Any) -> _Part:
        start, end = self._state(), self._state()
        for items in branches:
            first, last = self.sequence(items)
            start.to.append(first)
            last.to.append(end)
        return start, end

    def _anchor(self, where: Any) -> _Part:
        if where not in _ANCHORS:
            raise InvalidArgument("an anchor that regular expressions of Go do not have")
        start, end = self._state(anchor=_ANCHORS[where]), self._state()
        start.to.append(end)
        return start, end

    def _character(self, test: _Test) -> _Part:
        start, end = self._state(takes=test), self._state()
        start.to.append(end)
        return start, end

    def _test(self, code: Any, argument: Any) -> _Test:
        if code is op.ANY:
            return (lambda char: True) if self._any_line else (lambda char: char != "\n")
        if code is op.LITERAL:
            return self._folded(lambda char: ord(char) == argument)
        if code is op.NOT_LITERAL:
            alike = self._folded(lambda char: ord(char) == argument)
            return lambda char: not alike(char)
        if code is op.IN:
            return self._in(argument)
        raise InvalidArgument(f"regular expressions of Go have no {str(code).lower().replace('_', ' ')}")

    def _in(self, items: Any) -> _Test:
        negated = bool(items) and items[0][0] is op.NEGATE
        tests = [self._member(code, argument) for code, argument in items[negated:]]
        within = self._folded(lambda char: any(test(char) for test in tests))
        return (lambda char: not within(char)) if negated else within

    def _member(self, code: Any, argument: Any) -> _Test:
        if code is op.LITERAL:
            return lambda char: ord(char) == argument
        if code is op.RANGE:
            return lambda char: argument[0] <= ord(char) <= argument[1]
        return _CATEGORIES[argument]

    def _folded(self, test: _Test) -> _Test:
        if not self._ignore_case:
            return test
        return lambda char: any(test(one) for one in {char, *_single(char.lower()), *_single(char.upper())})

    def _state(self, takes: _Test | None = None, anchor: Callable[[str, int], bool] | None = None) -> _State:
        self._count += 1
        if self._count > MOST_STATES:
            raise InvalidArgument("a regular expression is too large", "repeat less in it")
        return _State(takes, anchor)


def _single(text: str) -> str:
    return text if len(text) == 1 else ""


def _is_boundary(text: str, at: int) -> bool:
    before = at > 0 and text[at - 1] in _WORD
    after = at < len(text) and text[at] in _WORD
    return before != after


_ANCHORS: Final[dict[Any, Callable[[str, int], bool]]] = {
    op.AT_BEGINNING: lambda text, at: at == 0,
    op.AT_BEGINNING_STRING: lambda text, at: at == 0,
    op.AT_END: lambda text, at: at == len(text),  # Go's $ is the very end, without (?m)
    op.AT_END_STRING: lambda text, at: at == len(text),
    op.AT_BOUNDARY: _is_boundary,
    op.AT_NON_BOUNDARY: lambda text, at: not _is_boundary(text, at),
}
_CATEGORIES: Final[dict[Any, _Test]] = {
    op.CATEGORY_DIGIT: lambda char: char in _DIGITS,
    op.CATEGORY_NOT_DIGIT: lambda char: char not in _DIGITS,
    op.CATEGORY_SPACE: lambda char: char in _SPACE,
    op.CATEGORY_NOT_SPACE: lambda char: char not in _SPACE,
    op.CATEGORY_WORD: lambda char: char in _WORD,
    op.CATEGORY_NOT_WORD: lambda char: char not in _WORD,
}
