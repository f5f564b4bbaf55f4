"""The report as one HTML page with nothing outside it: style and plots are inside."""

from __future__ import annotations

import html
from pathlib import Path

from benchmarks.report.document import Block, Bullets, Cell, Document, Figure, Heading, Table, Text

STYLE = """
:root { color-scheme: light dark; --ink: #1d2129; --paper: #fff; --line: #d9dde4; --soft: #667085; --head: #f3f5f8;
        --good: #e3f4e8; --bad: #fde7e4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ec; --paper: #14171c; --line: #333a45; --soft: #98a2b3; --head: #1d222a; --good: #15351f;
          --bad: #44201b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 81rem; padding: 1.5rem; overflow-wrap: break-word; color: var(--ink);
       font: 15px/1.5 system-ui, sans-serif; background: var(--paper); }
h1 { font-size: 1.8rem; margin: 0 0 .5rem; } h2 { margin: 2.4rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { margin: 1.4rem 0 .3rem; font-size: 1rem; color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { background: var(--head); font-weight: 600; white-space: normal; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 7rem; }
td small { display: block; color: var(--soft); font-size: .78em; }
td.good { background: var(--good); } td.bad { background: var(--bad); }
td.words { white-space: normal; text-align: left; }
figure { margin: 1rem 0; background: #fff; border: 1px solid var(--line); border-radius: 6px; padding: .6rem; }
figure svg { display: block; max-width: 100%; height: auto; } figcaption { color: #555; font-size: .85em; }
nav { columns: 3; font-size: .9em; } nav a { color: inherit; display: block; }
@media (max-width: 40rem) {
  body { padding: .7rem; font-size: 14px; } nav { columns: 1; } h1 { font-size: 1.4rem; }
  th, td { padding: .2rem .35rem; }
  th:first-child, td:first-child { position: sticky; left: 0; background: var(--head); } }
"""


def render(document: Document, plots: Path) -> str:
    """Return the page; figures are read from `plots` as SVG."""
    title = next((block.text for block in document.blocks if isinstance(block, Heading)), "report")
    body = "\n".join(block_html(block, plots) for block in document.blocks)
    body = body.replace("</h1>", f"</h1>\n{contents(document)}", 1)
    phone = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<meta charset="utf-8">{phone}<title>{html.escape(title)}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n<body>{body}</body></html>\n'


def contents(document: Document) -> str:
    """Return links to the sections, closed at first: the tables come before everything else."""
    links = [
        f'<a href="#{anchor(block.text)}">{html.escape(block.text)}</a>'
        for block in document.blocks
        if isinstance(block, Heading) and block.level == 2
    ]
    return f"<details><summary>Contents</summary><nav>{''.join(links)}</nav></details>"


def anchor(text: str) -> str:
    """Return a section's id."""
    return "".join(letter if letter.isalnum() else "-" for letter in text.lower())


def block_html(block: Block, plots: Path) -> str:
    """Return one block."""
    match block:
        case Heading():
            return f'<h{block.level} id="{anchor(block.text)}">{html.escape(block.text)}</h{block.level}>'
        case Text():
            return f"<p>{html.escape(block.text)}</p>"
        case Bullets():
            return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in block.items) + "</ul>"
        case Figure():
            caption = html.escape(block.caption)
            return f'<figure id="{block.name}">{svg(plots, block.name)}<figcaption>{caption}</figcaption></figure>'
        case Table():
            return table(block)


def svg(plots: Path, name: str) -> str:
    """Return a plot without its XML prologue; its ids get the plot's name so that plots do not share them."""
    text = (plots / f"{name}.svg").read_text()
    text = text[text.index("<svg") :]
    return text.replace('id="', f'id="{name}-').replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")


def table(block: Table) -> str:
    """Return a table that scrolls sideways when it is wide."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in block.columns)
    rows = "".join("<tr>" + "".join(cell(one) for one in row) + "</tr>" for row in block.rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def cell(one: Cell) -> str:
    """Return one place of a table; long sentences may wrap."""
    kind = "words" if len(one.text) > 40 else {True: "good", False: "bad", None: ""}[one.good]
    small = f"<small>{html.escape(one.small)}</small>" if one.small else ""
    return f'<td class="{kind}">{html.escape(one.text)}{small}</td>'
