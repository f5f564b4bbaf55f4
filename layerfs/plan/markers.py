"""Environment markers of Python's dependencies (the "dependency specifiers" of packaging.python.org), as far as needed.

A marker that cannot be understood is taken for true: the dependency then counts if it is installed.
"""

import os
import re
from collections.abc import Mapping
from typing import Final

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<text>'[^']*'|\"[^\"]*\")|(?P<sign>\(|\)|===|==|!=|<=|>=|~=|<|>|not\s+in\b|in\b|and\b|or\b)"
    r"|(?P<word>[a-z_.]+))\s*"
)
_NUMBERS: Final = re.compile(r"\d+")
_VERSIONS: Final = frozenset(("python_version", "python_full_version", "implementation_version"))
_MOST: Final = 1000  # tokens of one marker


class _Odd(Exception):
    """Raised for a marker that is not understood."""


def environment(version: str) -> Mapping[str, str]:
    """Return what markers may ask about CPython of a version, such as `3.11`, on this machine."""
    return {
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": os.uname().machine,
        "platform_release": os.uname().release,
        "platform_version": os.uname().version,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "implementation_version": version,
        "python_version": version,
        "python_full_version": version,
        "extra": "",
    }


def holds(marker: str, values: Mapping[str, str]) -> bool:
    """Tell whether a marker holds where its variables have some values."""
    try:
        return _Reading(_tokens(marker), values).whole()
    except _Odd:
        return True


def _tokens(marker: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(marker):
        match = _TOKEN.match(marker, at)
        if match is None or len(found) > _MOST:
            raise _Odd
        at = match.end()
        kind = str(match.lastgroup)
        found.append((kind, " ".join(match[kind].split()) if kind == "sign" else match[kind]))
    return found[::-1]


class _Reading:
    """One marker, read from its end to its beginning as a stack: `or` binds less than `and`."""

    def __init__(self, tokens: list[tuple[str, str]], values: Mapping[str, str]) -> None:
        self._tokens, self._values = tokens, values

    def whole(self) -> bool:
        """Evaluate the marker without recursion: a stack holds one (all so far, any before) for each open bracket."""
        levels: list[tuple[bool, bool]] = [(True, False)]
        while True:
            if self._take("("):
                if len(levels) > _MOST:
                    raise _Odd
                levels.append((True, False))
                continue
            value = self._comparison()
            while True:
                every, some = levels[-1]
                levels[-1] = (every and value, some)
                if self._take("and"):
                    break
                if self._take("or"):
                    levels[-1] = (True, some or (every and value))
                    break
                value = some or (every and value)
                levels.pop()
                if not levels and not self._tokens:
                    return value
                if not levels or not self._take(")"):
                    raise _Odd

    def _take(self, sign: str) -> bool:
        there = bool(self._tokens) and self._tokens[-1] == ("sign", sign)
        if there:
            self._tokens.pop()
        return there

    def _comparison(self) -> bool:
        if len(self._tokens) < 3:
            raise _Odd
        (kind, one), (_, sign), (other_kind, other) = (self._tokens.pop() for _ in range(3))
        left, right = self._value(kind, one), self._value(other_kind, other)
        if sign in ("in", "not in"):
            return (left in right) == (sign == "in")
        if _VERSIONS & {one, other}:
            return _compared(sign, _version(left), _version(right))
        if sign in ("==", "==="):
            return left == right
        if sign == "!=":
            return left != right
        raise _Odd

    def _value(self, kind: str, token: str) -> str:
        if kind == "text":
            return token[1:-1]
        if kind != "word" or token not in self._values:
            raise _Odd
        return self._values[token]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(digits[:9]) for digits in _NUMBERS.findall(text)[:8])


def _compared(sign: str, one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    length = max(len(one), len(other))
    left, right = ((*version, *[0] * (length - len(version))) for version in (one, other))
    if sign == "~=":
        return left >= right and one[: len(other) - 1] == other[:-1]
    results = {
        "==": left == right, "===": left == right, "!=": left != right,
        "<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right,
    }  # fmt: skip
    if sign not in results:
        raise _Odd
    return results[sign]
