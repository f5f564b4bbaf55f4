"""containerd's filter language (its package `filters`), for walks through snapshots.

    filter   := selector ("," selector)*            all must hold; of several filters, one
    selector := path (("==" | "!=" | "~=") value)?  without a value: the field is there
    path     := field ("." field)*                  name, parent, kind, labels.NAME; a label's dots may stay unquoted
    field    := quoted | [A-Za-z0-9_-]+
    value    := quoted | printable characters without blanks and commas
    quoted   := in "", behind ~= also in // or ||, with the escapes of Go's strings

`~=` searches for a regular expression (`layerfs.snapshots.pattern`). A field that is absent equals nothing; to != and
~= it is empty. Filters come from clients that nobody trusts: length and number are bounded.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from layerfs.errors import InvalidArgument
from layerfs.snapshots.pattern import Pattern
from layerfs.store.info import Info, SnapshotKind
from layerfs.store.rows import Where
from layerfs.value import value

LONGEST: Final = 65536  # characters of one filter
MOST: Final = 1024  # filters at once
_OPERATOR: Final = re.compile(r"[=!~]+")
_FIELD: Final = re.compile(r"[A-Za-z0-9_-]+")
_BLANK: Final = re.compile(r"\s*")
_HEX: Final = "[0-9a-fA-F]"
_ESCAPE: Final = re.compile(
    rf"\\(?:([abfnrtv\\])|([0-7]{{3}})|x({_HEX}{{2}})|u({_HEX}{{4}})|U({_HEX}{{8}})|(.))", re.DOTALL
)
_SIMPLE: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_PLAIN: Final = '"'
_QUOTES: Final = '"/|'


@value
class Selector:
    """One condition: a field's path, an operator (empty: presence) and what the field is compared with."""

    path: tuple[str, ...]
    operator: str = ""
    wanted: str = ""
    pattern: Pattern | None = None

    def matches(self, info: Info) -> bool:
        """Tell whether a snapshot meets the condition."""
        found = field_of(info, self.path)
        if self.operator == "==":
            return found == self.wanted
        if self.operator == "!=":
            return (found or "") != self.wanted
        if self.pattern is not None:
            return self.pattern.found_in(found or "")
        return found is not None


@value
class Filter:
    """Alternatives, each of conditions that must all hold; without alternatives everything matches."""

    alternatives: tuple[tuple[Selector, ...], ...] = ()

    def matches(self, info: Info) -> bool:
        """Tell whether a snapshot matches."""
        if not self.alternatives:
            return True
        return any(all(selector.matches(info) for selector in part) for part in self.alternatives)

    def where(self) -> Where:
        """Return conditions for the ledger, so that it need not read everything; `matches` decides in the end."""
        if len(self.alternatives) != 1:
            return Where()
        equal = {part.path: part.wanted for part in self.alternatives[0] if part.operator == "=="}
        kinds = {kind.word: kind for kind in SnapshotKind}
        return Where(
            key=equal.get(("name",)),
            parent=equal.get(("parent",)) or None,  # no parent is no name in the ledger
            kind=kinds.get(equal.get(("kind",), "")),
            labels=tuple((".".join(path[1:]), content) for path, content in equal.items() if path[0] == "labels"),
        )


def field_of(info: Info, path: tuple[str, ...]) -> str | None:
    """Return the content of a field; None if it is absent."""
    if path[0] == "labels":
        return info.labels.get(".".join(path[1:]))
    readers: dict[str, Callable[[Info], str]] = {
        "name": lambda info: info.name,
        "parent": lambda info: info.parent,
        "kind": lambda info: info.kind.word,
    }
    reader = readers.get(path[0])
    return None if reader is None else reader(info)


def parse_all(texts: Sequence[str]) -> Filter:
    """Return filters as one that matches where any of them does; none, or an empty one, matches everything.

    Raises InvalidArgument saying what is wrong, and where.
    """
    if len(texts) > MOST:
        raise InvalidArgument(f"{len(texts)} filters at once; {MOST} are the most")
    if any(not text for text in texts):
        return Filter()
    return Filter(tuple(_Parser(text).selectors() for text in texts))


class _Parser:
    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise InvalidArgument(f"a filter has {len(text)} characters; {LONGEST} are the most")
        self._text = text
        self._at = 0

    def selectors(self) -> tuple[Selector, ...]:
        found = [self._selector()]
        while self._at < len(self._text):
            if self._text[self._at] != ",":
                raise self._error("unexpected input")
            self._at += 1
            found.append(self._selector())
        return tuple(found)

    def _selector(self) -> Selector:
        path = self._path()
        if self._peek() in ("", ","):
            return Selector(path)
        operator = self._operator()
        wanted = self._value(_QUOTES if operator == "~=" else _PLAIN)
        return Selector(path, operator, wanted, Pattern.parse(wanted) if operator == "~=" else None)

    def _path(self) -> tuple[str, ...]:
        fields = [self._field()]
        while self._peek() == ".":
            self._at += 1
            fields.append(self._field())
        return tuple(fields)

    def _field(self) -> str:
        self._skip_blanks()
        if self._peek() == _PLAIN:
            return self._quoted()
        match = _FIELD.match(self._text, self._at)
        if match is None:
            raise self._error("expected a field, or one in quotes")
        self._at = match.end()
        return match[0]

    def _operator(self) -> str:
        self._skip_blanks()
        match = _OPERATOR.match(self._text, self._at)
        if match is None or match[0] not in ("==", "!=", "~="):
            raise self._error("expected an operator: ==, != or ~=")
        self._at = match.end()
        return match[0]

    def _value(self, quotes: str) -> str:
        self._skip_blanks()
        if self._peek() and self._peek() in quotes:
            return self._quoted()
        start = self._at
        if self._peek() in (".", "=", "!", "~", *_QUOTES):  # no value begins so (containerd's scanner)
            raise self._error("expected a value, or one in quotes")
        while self._peek() not in ("", ",") and not self._peek().isspace() and self._peek().isprintable():
            self._at += 1
        if self._at == start:
            raise self._error("expected a value, or one in quotes")
        return self._text[start : self._at]

    def _quoted(self) -> str:
        quote, start = self._text[self._at], self._at
        at = start + 1
        while True:
            if at >= len(self._text) or self._text[at] == "\n":
                raise self._error("quotes that do not end")
            if self._text[at] == quote:
                break
            at += 2 if self._text[at] == "\\" else 1
        self._at = at + 1
        return self._unquote(self._text[start + 1 : at], quote)

    def _unquote(self, text: str, quote: str) -> str:
        """Undo the escapes of a Go string; numbers up to two hexadecimal or three octal digits are bytes."""

        def undo(match: re.Match[str]) -> bytes:
            simple, octal, byte, short, long, other = match.groups()
            if simple:
                return _SIMPLE[simple].encode()
            if octal or byte:
                number = int(octal, 8) if octal else int(byte, 16)
                if number > 255:
                    raise self._error("an escape of more than a byte")
                return bytes([number])
            if short or long:
                number = int(short or long, 16)
                if number > 0x10FFFF or 0xD800 <= number < 0xE000:
                    raise self._error("an escape that is no character")
                return chr(number).encode()
            if other != quote:
                raise self._error("an unknown escape")
            return quote.encode()

        parts, end = [], 0
        for match in _ESCAPE.finditer(text):
            parts += [text[end : match.start()].encode(), undo(match)]
            end = match.end()
        return b"".join([*parts, text[end:].encode()]).decode("utf-8", "replace")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip_blanks(self) -> None:
        match = _BLANK.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _error(self, what: str) -> InvalidArgument:
        before, after = self._text[: self._at][-40:], self._text[self._at + 1 :][:40]
        shown = f"{before} >|{self._peek()}|< {after}"
        return InvalidArgument(f"bad filter: {what} at [{shown}]", 'such as: kind==active,labels."a.b"==c,name~=^base')
