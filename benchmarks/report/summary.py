"""What a run says on the terminal: a table that needs no knowledge of the harness, and what was left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks import questions
from benchmarks.records import Key, Results
from benchmarks.stats import spread

DIRECTORIES = (
    ("mount and first ls [ms]", Key("mount", "own/10", "answered")),
    ("stat [us]", Key("lookup", "own/10", "stat.cold")),
    ("stat, cached", Key("lookup", "own/10", "stat.warm")),
    ("absent name", Key("lookup", "own/10", "absent.cold")),
    ("absent, cached", Key("lookup", "own/10", "absent.warm")),
    ("open+read+close", Key("open", "own/10", "open.cold")),
    ("walk, an entry", Key("walk", "own/10", "walk.cold")),
    ("create 4 KiB", Key("create", "own/10", "create.cold")),
    ("first write (copy-up)", Key("copyup", "own/10", "append.cold")),
    ("unlink", Key("unlink", "own/10", "unlink.cold")),
    ("server's memory [MB]", Key("memory", "own/10", "mounted")),
)
IMAGES = tuple(
    (title, Key(key.question, "own.sqfs/10", key.measure)) for title, key in DIRECTORIES if key.question != "memory"
)
TABLES = (
    ("10 layers of directories, 10,000 files", DIRECTORIES),
    ("the same in 10 squashfs images, without root", IMAGES),
)
NOTE = "Medians; microseconds for one operation unless said; nothing cached unless said. Less is better."
WIDTH = 10  # characters of a column
NAMES = 24  # characters of the first one


def summary(results: Results) -> str:
    """Return the tables, and what was not measured."""
    parts = [table for title, lines in TABLES if (table := _table(results, title, lines))]
    if parts:
        parts.append(NOTE)
    left = list(left_out(results))
    return "\n\n".join([*parts, *(["Left out:\n" + "\n".join(f"- {line}" for line in left)] if left else [])])


def _table(results: Results, title: str, lines: Sequence[tuple[str, Key]]) -> str:
    """Return one table: an operation in each line, a subject in each column."""
    rows = [(name, _found(results, key)) for name, key in lines]
    rows = [(name, found) for name, found in rows if found]
    subjects = [one for one in results.subjects() if any(one in found for _, found in rows)]
    if not rows:
        return ""
    body = [
        name.ljust(NAMES) + "".join(_number(found.get(subject)).rjust(WIDTH + 1) for subject in subjects)
        for name, found in rows
    ]
    return "\n".join([f"{title}:", *_heads(subjects), *body])


def _found(results: Results, key: Key) -> dict[str, float]:
    """Return each subject's median; without root nothing can be cold, and a fresh mount is taken."""
    found: dict[str, float] = {}
    for measure in (key.measure, key.measure.replace(".cold", ".fresh")):
        for subject in results.subjects():
            values = results.of_subject(Key(key.question, key.case, measure), subject)
            if values:
                found.setdefault(subject, spread(list(values.values())).median)
    return found


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _heads(subjects: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the head: a long name is broken where it has a joint."""
    names = [_broken(subject) for subject in subjects]
    height = max(map(len, names))
    for line in range(-height, 0):
        words = [name[line] if -line <= len(name) else "" for name in names]
        yield (" " * NAMES + "".join(word.rjust(WIDTH + 1) for word in words)).rstrip()


def _broken(name: str) -> list[str]:
    lines = [""]
    for part in name.replace("+", "+\0").replace("-", "-\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part) > WIDTH:
            lines.append("")
        lines[-1] += part
    return lines


def left_out(results: Results) -> Iterator[str]:
    """Yield what was not measured, and why."""
    for one in results.kind("subject"):
        if one["missing"]:
            yield f"{one['name']}: {one['missing']}"
    for kind, why in (("skipped", "no time"), ("failed", "failed")):
        groups: dict[str, dict[str, None]] = {}
        for one in results.kind(kind):
            groups.setdefault(f"{one['question']} {one['case']}", {})[one["subject"]] = None
        alike: dict[tuple[str, ...], list[str]] = {}
        for what, subjects in groups.items():
            alike.setdefault(tuple(subjects), []).append(what)
        for names, asked in alike.items():
            yield f"{why}: {', '.join(asked)} ({', '.join(names)})"
    if results.one("run").get("scale") == "quick":
        put = {one["name"] for one in results.kind("question")}
        others = [name for name in questions.ORDER if name not in put]
        yield f"questions that --quick does not ask: {', '.join(others)}"
