"""The report as Markdown."""

from __future__ import annotations

from benchmarks.report.document import Block, Bullets, Cell, Document, Figure, Heading, Table, Text


def render(document: Document) -> str:
    """Return the document as Markdown."""
    return "\n\n".join(block_lines(block) for block in document.blocks) + "\n"


def block_lines(block: Block) -> str:
    """Return one block."""
    match block:
        case Heading():
            return f"{'#' * block.level} {block.text}"
        case Text():
            return block.text
        case Bullets():
            return "\n".join(f"- {item}" for item in block.items)
        case Figure():
            return f"![{block.caption}](plots/{block.name}.svg)"
        case Table():
            return table(block)


def table(block: Table) -> str:
    """Return a pipe table."""
    lines = [block.columns, ["---"] * len(block.columns), *([cell(one) for one in row] for row in block.rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(one: Cell) -> str:
    """Return one place of a table; what is bad is bold."""
    text = f"**{one.text}**" if one.good is False else one.text
    return f"{text} ({one.small})" if one.small else text
