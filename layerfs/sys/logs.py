"""Logging that begins with the first line: to import and set up `logging` costs 5 ms, and most servers log nothing.

Any thread may use it; a second that logs at the same moment may find logging half set up, which loses no line.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

_begin: Callable[[], object] | None = None


def begin_later(begin: Callable[[], object]) -> None:
    """Have `begin` set logging up before the first line is logged, or when `begin_now` is called."""
    global _begin
    _begin = begin


def begin_now() -> None:
    """Set logging up, unless that was done before."""
    global _begin
    begin, _begin = _begin, None
    if begin is not None:
        begin()


def logger(name: str) -> "logging.Logger":
    """Return a logger, with logging set up."""
    begin_now()
    import logging

    return logging.getLogger(name)
