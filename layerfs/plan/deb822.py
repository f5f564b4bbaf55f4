"""Paragraphs and relations of Debian's control files (Debian Policy 5.1 and 7.1), and the dates of changelogs (4.4)."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

_NAME: Final = re.compile(r"\s*([a-z0-9][a-z0-9+.-]*)")
_TRAILER: Final = re.compile(r"^ -- .{0,300}?>  ?(?:\w{3}, )?\s*(\d{1,2}) (\w{3}) (\d{4})\b", re.MULTILINE)
_MONTHS: Final = {name: number for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())}


def paragraphs(text: str) -> Iterator[Mapping[str, str]]:
    """Yield the fields of each paragraph; lines that are no field are passed over."""
    fields: dict[str, str] = {}
    name = ""
    for line in text.split("\n"):
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t":
            if name:
                fields[name] += "\n" + line
        elif ":" in line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    if fields:
        yield fields


def relations(field: str) -> list[list[str]]:
    """Return the alternatives of each relation of a field like Depends, without versions and architectures."""
    found = [[match[1] for part in one.split("|") if (match := _NAME.match(part))] for one in field.split(",")]
    return [names for names in found if names]


def months(changelog: str) -> list[int]:
    """Return the month of each entry of a changelog, counted from the year 0."""
    dates = _TRAILER.findall(changelog)
    sound = [(month, year) for _, month, year in dates if month in _MONTHS and "1990" <= year <= "2100"]
    return [int(year) * 12 + _MONTHS[month] for month, year in sound]
