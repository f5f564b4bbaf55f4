"""A report as blocks, so that Markdown and HTML are two renderings of one text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Heading:
    """A title; level 1 is the report's own."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; line breaks mean nothing."""

    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of a table: what is said, what is said smaller beside it, and whether it is good (None: neither)."""

    text: str
    small: str = ""
    good: bool | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows; the first column names the row."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot by the name of its files in plots/, without suffix."""

    name: str
    caption: str


Block = Heading | Text | Bullets | Table | Figure


@dataclass
class Document:
    """The blocks in order."""

    blocks: list[Block] = field(default_factory=list)

    def add(self, *blocks: Block) -> None:
        """Append blocks; an empty table or list is left out."""
        for block in blocks:
            if (isinstance(block, Table) and not block.rows) or (isinstance(block, Bullets) and not block.items):
                continue
            self.blocks.append(block)
