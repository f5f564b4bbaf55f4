"""The report as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import targets
from benchmarks.records import Key, Results
from benchmarks.stats import ratio, spread


def report(results: Results, plots: Sequence[str]) -> str:
    """Return the whole report."""
    parts = [["# layerfs benchmarks", ""], targets_section(results), host_section(results), subjects_section(results)]
    for question in results.kind("question"):
        parts.append(question_section(results, question["name"], question["text"]))
    parts.append(trouble_section(results))
    return "\n".join("\n".join(part) for part in parts) + "\n"


def targets_section(results: Results) -> list[str]:
    """The project's own aims first."""
    return ["## issue-11 targets", "", *targets.table(results), ""]


def host_section(results: Results) -> list[str]:
    """One line for each fact."""
    facts = results.one("host")
    return ["## Host", "", *(f"- {name.replace('_', ' ')}: {value}" for name, value in facts.items() if name != "kind"),
            ""]


def subjects_section(results: Results) -> list[str]:
    """Who was measured, who is missing."""
    lines = ["## Subjects", "", "| subject | version | what it is |", "|---|---|---|"]
    for one in results.kind("subject"):
        version = f"missing: {one['missing']}" if one["missing"] else one["version"]
        lines.append(f"| {one['name']} | {version} | {one['about']} |")
    return [*lines, ""]


def question_section(results: Results, name: str, text: str) -> list[str]:
    """The question's words, then one table for each case: subjects down, measures across."""
    first, _, rest = text.partition("\n")
    lines = [f"## {name}: {first}", "", rest.strip(), ""]
    keys = [key for key in results.values if key.question == name]
    for case in dict.fromkeys(key.case for key in keys):
        lines += case_table(results, [key for key in keys if key.case == case], case)
    return lines


def case_table(results: Results, keys: Sequence[Key], case: str) -> list[str]:
    """Medians with their quartiles."""
    titles = " | ".join(f"{key.measure} [{results.units[key]}]" for key in keys)
    lines = [f"### {case}", "", f"| subject | {titles} |", "|---|" + "---|" * len(keys)]
    for subject in results.subjects():
        cells = [cell(results, key, subject) for key in keys]
        if any(cells):
            lines.append(f"| {subject} | {' | '.join(cells)} |")
    return [*lines, ""]


def cell(results: Results, key: Key, subject: str) -> str:
    """Return a median with its quartiles and, where it exists, the ratio to Debian's fuse-overlayfs."""
    values = results.of_subject(key, subject)
    if not values:
        return ""
    found = spread(list(values.values()))
    against = ratio(values, results.of_subject(key, targets.DEBIAN)) if subject != targets.DEBIAN else None
    paired = f", {against.median:.2f}x" if against else ""
    return f"{found.median:.4g} ({found.low:.4g} to {found.high:.4g}){paired}"


def trouble_section(results: Results) -> list[str]:
    """What could not be measured, and trees that came out different."""
    lines = ["## What was not measured", ""]
    for one in results.kind("failed"):
        lines.append(f"- failed: {one['question']} {one['case']} {one['subject']}: {one['error']}")
    for one in results.kind("skipped"):
        lines.append(f"- skipped: {one['question']} {one['case']} {one['subject']}: {one['reason']}")
    for one in results.kind("digest"):
        if not one["same"]:
            lines.append(f"- **wrong tree**: {one['tree']}/{one['layers']} {one['subject']}: {one['digest']}")
    return lines if len(lines) > 2 else [*lines, "Everything that was asked was measured.", ""]
