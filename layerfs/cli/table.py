"""Rows for a person: a table where it fits, blocks of lines on a narrow screen; nothing is cut."""

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

GAP: Final = "  "


def screen_width() -> int | None:
    """Return the columns of the terminal that is printed to; None for a pipe or a file, whose lines have no end."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def lay_out(
    names: Sequence[str], rows: Sequence[Sequence[str]], details: Sequence[Sequence[tuple[str, str]]], width: int | None
) -> Iterator[str]:
    """Yield lines: one for each row with its details (name, text) where all lines fit, else with the details below it.

    Without a width a row is one line, whatever it takes. Where even the rows are too wide, the first cell has a line of
    its own.
    """
    full = [[*row, *(text for _, text in more)] for row, more in zip(rows, details, strict=True)]
    heads = [*names, *(name for name, _ in details[0])] if details else list(names)
    table = list(columns([heads, *full]))
    if width is None or max(map(len, table)) <= width:
        yield from table
        return
    table = list(columns([list(names), *rows]))
    if max(map(len, table)) <= width:
        yield table[0]
        for line, more in zip(table[1:], details, strict=True):
            yield line
            yield from _below(more, width)
        return
    rest = list(columns([list(names[1:]), *(row[1:] for row in rows)]))
    yield names[0]
    yield from _wrapped(rest[0], width, GAP)
    for row, line, more in zip(rows, rest[1:], details, strict=True):
        yield row[0]
        yield from _wrapped(line, width, GAP)
        yield from _below(more, width)


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows as lines whose cells stand below each other; the last column is as long as it is."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        yield GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _below(details: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    """Yield details below their row."""
    for name, text in details:
        if text and text != "-":
            yield from _wrapped(f"{name} {text}", width, GAP * 2)


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    """Return indented lines of a text; a word that is too long is left whole, for the terminal to break."""
    return textwrap.wrap(
        text,
        max(width, len(indent) + 1),
        initial_indent=GAP,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
