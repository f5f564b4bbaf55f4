"""Output for a person during and after long work: a progress bar on a terminal, sizes in units, a few lines."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from layerfs.sys.terminal import one_line

MOST: Final = 20  # lines about single files; the rest is counted
UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that is told the progress (done, total). It draws a bar on stderr if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(one_line(title).replace("[", "\\["), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def size(count: int) -> str:
    """Return a number of bytes as a person says it."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {UNITS[unit]}" if unit else f"{count} bytes"


def complain(lines: Sequence[str]) -> None:
    """Print lines about single files to stderr, at most the first few."""
    for line in lines[:MOST]:
        print(f"layerfs: {one_line(line)}", file=sys.stderr)
    if len(lines) > MOST:
        print(f"layerfs: and {len(lines) - MOST} more", file=sys.stderr)
