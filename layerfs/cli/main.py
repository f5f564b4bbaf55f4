"""The programs `layerfs`, `layerfs-mount`, `xarexec_fuse`: find the verb, import it alone, turn errors into one line.

Exit status: 0, 1 with `layerfs: what went wrong (hint: next step)`, 2 for wrong usage.
"""

import gc
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from layerfs.errors import LayerfsError, WrongUsage
from layerfs.sys.later import put_off
from layerfs.sys.terminal import one_line

if TYPE_CHECKING:
    import argparse

WRONG_USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells say it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `layerfs` and return its exit status."""
    _hurry()
    words = sys.argv[1:] if arguments is None else list(arguments)
    return guard(lambda: _run(words))


def mount_helper(arguments: Sequence[str] | None = None) -> int:
    """Run `layerfs-mount`, which podman and mount(8) call, and return its exit status."""
    _hurry()
    words = sys.argv[1:] if arguments is None else list(arguments)
    return guard(lambda: _run_helper(words))


def xarexec_fuse(arguments: Sequence[str] | None = None) -> int:
    """Run `xarexec_fuse`, which the first line of every XAR names, and return its exit status."""
    _hurry()
    words = sys.argv[1:] if arguments is None else list(arguments)
    return guard(lambda: _run_xar(words))


def _hurry() -> None:
    """Save a fifth of the start: no garbage is looked for (the server does again), and `inspect` is not imported.

    dataclasses imports it for the signatures of classes without a docstring, which we have none of.
    """
    gc.disable()
    put_off("inspect")
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_standard()


def _open_standard() -> None:
    """Open /dev/null for what the caller has closed: no file of ours may be taken for it, and printing goes on.

    A program that we become (`xar exec`) finds them closed again.
    """
    while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) < 2:
        pass
    if fd > 2:
        os.close(fd)
    sys.stdin = sys.stdin or open(0, closefd=False)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)


def guard(run: Callable[[], int]) -> int:
    """Call and return the exit status; every exception becomes one line on stderr."""
    status = 1
    try:
        return run()
    except LayerfsError as error:
        text = str(error)
        status = WRONG_USAGE if isinstance(error, WrongUsage) else 1
    except BrokenPipeError:  # `layerfs status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        text = _sentence(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as bug:
        text = _confess(bug)
    print(f"layerfs: {one_line(text)}", file=sys.stderr)
    return status


def _run(words: list[str]) -> int:
    """Parse the command line with the parser of its one verb, and run that."""
    if words[:1] == ["mount"]:
        from layerfs.cli import mount

        quick = mount.quick(words[1:])
        if quick is not None:
            return mount.run(quick)
    gc.enable()
    from layerfs.cli.parser import GROUPS, VERBS, build_parser, parser_of

    verb = next((word for word in words if not word.startswith("-")), "")
    part = words[words.index(verb) + 1 :][:1] if verb in GROUPS else []
    parser = build_parser((verb,) if verb in VERBS else VERBS, *part)
    arguments, rest = parser.parse_known_args(words)
    if rest:
        # argparse gives up on positional arguments that options divide: `mount A B --upper U M`.
        if not hasattr(arguments, "paths") or any(word.startswith("-") for word in rest):
            parser_of(parser, words).refuse(rest)
        arguments.paths += rest
    run: Callable[[argparse.Namespace], int] = import_module(f"layerfs.cli.{verb}").run
    return run(arguments)


def _run_helper(words: list[str]) -> int:
    from layerfs.cli.mount_helper import run

    return run(words)


def _run_xar(words: list[str]) -> int:
    from layerfs.cli.xar_exec import interpret

    return interpret(words)


def _sentence(error: OSError) -> str:
    """Return what an operating system's error says, with the path it is about; some say it better by themselves."""
    if type(error).__str__ is not OSError.__str__:
        return str(error)
    said = error.strerror or str(error)
    name = error.filename
    return f"{os.fsdecode(name)}: {said}" if isinstance(name, str | bytes) else said


def _confess(bug: Exception) -> str:
    """Log a bug's traceback where it can be sent from; return the line for the user."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="layerfs-bug-", suffix=".log", delete=False) as log:
        traceback.print_exception(bug, file=log)
    return f"a bug: {type(bug).__name__}: {bug} (hint: please report it with {log.name})"


if __name__ == "__main__":
    sys.exit(main())
