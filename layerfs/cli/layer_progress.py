"""Progress of layers for a person: a bar for each layer on a terminal, else a line when each is done."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from threading import Lock
from types import TracebackType
from typing import Any, Self

from layerfs.sys.terminal import one_line

_DONE = ("stored", "unpacked", "pushed", "there")


class LayerProgress:
    """Shows progress on stderr, and lines about what is done on stdout; any thread may tell it something."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._lock = Lock()
        self._tasks: dict[str, Any] = {}
        self._said: set[tuple[str, str]] = set()
        self._show: Callable[[str, str, int, int], None] = self._line

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bars = self._held.enter_context(Progress(console=Console(stderr=True), transient=True))
            self._show = self._bar
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._held.close()

    def progress(self, word: str, digest: str, done: int, total: int) -> None:
        """Tell how far one blob is."""
        with self._lock:
            self._show(word, digest, done, total)

    def say(self, text: str) -> None:
        """Print a result."""
        print(one_line(text), flush=True)

    def _line(self, word: str, digest: str, done: int, total: int) -> None:
        if word in _DONE and (word, digest) not in self._said:
            self._said.add((word, digest))
            print(f"{digest[7:19]} {word}", file=sys.stderr, flush=True)

    def _bar(self, word: str, digest: str, done: int, total: int) -> None:
        if digest not in self._tasks:
            self._tasks[digest] = self._bars.add_task("", total=total)
        self._bars.update(self._tasks[digest], description=f"{digest[7:19]} {word}", completed=done, total=total)
