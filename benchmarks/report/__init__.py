"""The report of a run: report.md, plots/ and report.html, all made from the records alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks import targets
from benchmarks.records import Results


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a report, and its headline."""

    paths: list[Path]
    headline: list[str]

    def summary(self) -> str:
        """Return what the terminal shows."""
        return "\n".join(self.headline)


def write(results: Results, out: Path) -> Written:
    """Write everything into `out`."""
    from benchmarks.report import markdown

    text = markdown.report(results, [])
    (out / "report.md").write_text(text)
    return Written([out / "report.md"], targets.table(results))
