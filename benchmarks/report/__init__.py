"""The report of a run: report.md, report.html and plots/, all made from the records alone.

A file READING.md beside the results, if there is one, is a person's reading of them and opens the report.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.records import Results
from benchmarks.report import content, html, markdown, plots
from benchmarks.report.summary import summary

READING = "READING.md"
__all__ = ["summary", "write"]


def write(results: Results, out: Path) -> list[Path]:
    """Write everything into `out`; return the files a person opens."""
    figures = plots.draw(results, out / "plots")
    reading = out / READING
    document = content.compose(results, figures, reading.read_text() if reading.exists() else "")
    (out / "report.md").write_text(markdown.render(document))
    (out / "report.html").write_text(html.render(document, out / "plots"))
    return [out / "report.md", out / "report.html"]
