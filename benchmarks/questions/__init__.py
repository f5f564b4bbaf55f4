"""What is asked; one file each, whose docstring is the question."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from benchmarks.model import BenchError, Scale
from benchmarks.questions.question import Question

ORDER = (
    "lookup",
    "walk",
    "open",
    "create",
    "copyup",
    "unlink",
    "rename",
    "mkdir",
    "replace",
    "read",
    "write",
    "mount",
    "short",
    "concurrency",
    "readers",
    "idle",
    "memory",
    "wide",
    "find",
    "scattered",
    "chmod",
    "million",
    "real_find",
    "real_du",
    "real_import",
    "real_compile",
    "real_shell",
    "real_tar",
    "real_git",
    "real_untar",
    "real_build",
    "real_apt",
    "real_dpkg",
    "real_upgrade",
    "real_npm",
    "real_pgbench",
)
"""In the order in which they are asked: what steers the project first."""


QUICK = ("mount", "lookup", "memory", "open", "walk", "create", "copyup", "unlink")
"""What --quick asks: what the program is for, the most telling first, as there may be no time for the last."""


def all_questions() -> list[Question]:
    """Load every question; each module offers one object called QUESTION."""
    return [importlib.import_module(f"benchmarks.questions.{name}").QUESTION for name in ORDER]


def text(question: Question) -> str:
    """Return the question as written: the docstring of its module."""
    return (sys.modules[type(question).__module__].__doc__ or "").strip()


def chosen(names: Sequence[str], scale: Scale) -> list[Question]:
    """Return the questions called `names`, else those of the scale."""
    known = {question.name: question for question in all_questions()}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BenchError(f"no question is called {', '.join(unknown)}; there are: {', '.join(known)}")
    if not names and scale is Scale.QUICK:
        names = QUICK
    return [known[name] for name in names] if names else [one for one in known.values() if one.cases(scale)]
