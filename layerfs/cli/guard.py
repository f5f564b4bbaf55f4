"""Errors become one line on stderr and an exit status; no traceback reaches a user."""

import os
import sys
from collections.abc import Callable

from layerfs.errors import FULL, MAKE_ROOM, LayerfsError, WrongUsage
from layerfs.sys.terminal import one_line

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells say it
MOST = 10_000  # characters of an error: two paths of PATH_MAX, and words


def guard(run: Callable[[], int]) -> int:
    """Call and return the exit status; every exception becomes one line on stderr."""
    status = FAILED
    try:
        return run()
    except LayerfsError as error:
        text = str(error)
        status = WRONG_USAGE if isinstance(error, WrongUsage) else FAILED
    except BrokenPipeError:  # `layerfs status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    except OSError as error:
        text = _sentence(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as bug:
        text = _report_bug(bug)
    print(f"layerfs: {one_line(_short(text))}", file=sys.stderr)
    return status


def _short(text: str) -> str:
    """Return a text that a terminal can be given: names of others may have any length; the hint is at its end."""
    return text if len(text) <= MOST else f"{text[: MOST // 2]} ... {text[-MOST // 2 :]}"


def _sentence(error: OSError) -> str:
    """Return what an operating system's error says, with the path it is about; some say it better by themselves."""
    known = type(error).__str__ is OSError.__str__
    said = (error.strerror if known else "") or str(error)
    name = error.filename if known else None
    if error.errno in FULL:
        said = f"{said} (hint: {MAKE_ROOM})"
        name = name if isinstance(name, str | bytes) and os.path.isabs(name) else None  # else a name in a place of ours
    return f"{os.fsdecode(name)}: {said}" if isinstance(name, str | bytes) else said


def _report_bug(bug: Exception) -> str:
    """Log a bug's traceback where it can be sent from; return the line for the user."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="layerfs-bug-", suffix=".log", delete=False) as log:
        traceback.print_exception(bug, file=log)
    return f"a bug: {type(bug).__name__}: {bug} (hint: please report it with {log.name})"
