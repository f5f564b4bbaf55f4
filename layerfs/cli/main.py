"""The programs `layerfs`, `layerfs-mount`, `xarexec_fuse`: find the verb, import it alone, turn errors into one line.

Exit status: 0, 1 with `layerfs: what went wrong (hint: next step)`, 2 for wrong usage.
"""

import gc
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final

from layerfs.cli.guard import guard as guard
from layerfs.mounts import standby_start
from layerfs.sys.later import put_off
from layerfs.xarexec import SERVER

if TYPE_CHECKING:
    import argparse

QUICK: Final = ("mount", "snapshot", "image", "xar")  # verbs that take a well-formed line apart without argparse
PROGRAM: Final = "layerfs-start"  # as program.c names it, which lies beside each program of ours


def start() -> int:
    """Run the program that cli/program.c names: what it has not left to a process that stands by."""
    standby_start.was_started_by(os.fsencode(sys.argv[0]), run_for_another)
    _be_called(sys.argv[1])
    return run_program(sys.argv[1:])


def _be_called(name: str) -> None:
    """Show the name of the program that was called, which this one only goes on with."""
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(name)
    except OSError:  # no /proc: whoever needs it says so
        pass


def run_program(words: Sequence[str]) -> int:
    """Run a program by its name, and return its exit status."""
    name, *arguments = words
    return mount_helper(arguments) if name == "layerfs-mount" else main(arguments)


def run_for_another(words: Sequence[str]) -> int:
    """Run what a process asks for that stands by: one of our programs, or the server of a XAR's mount."""
    if words[0] != SERVER:
        return run_program(words)
    from layerfs.xarexec.serve import mount_for_another

    _hurry()
    return mount_for_another(words[1:])


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
    beside = os.path.dirname(os.path.realpath(sys.argv[0]))
    standby_start.was_started_by(os.fsencode(os.path.join(beside, PROGRAM)), run_for_another)
    words = sys.argv[1:] if arguments is None else list(arguments)
    return guard(lambda: _run_xar(words))


def _hurry() -> None:
    """Save a fifth of the start: the garbage collector is off (the server turns it on), `inspect` is not imported.

    dataclasses imports it for the signatures of classes without a docstring, which we have none of.
    """
    gc.disable()
    put_off("inspect")
    _hear_of_children()
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_standard()


def _hear_of_children() -> None:
    """Undo that the caller ignores SIGCHLD: the exit status of fusermount3, and of every child, would be lost."""
    import signal

    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _open_standard() -> None:
    """Open /dev/null for closed standard streams, so that no file of ours gets their numbers and printing works.

    A program that we become (`xar exec`) finds them closed again.
    """
    while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) < 2:
        pass
    if fd > 2:
        os.close(fd)
    sys.stdin = sys.stdin or open(0, closefd=False)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)


def _run(words: list[str]) -> int:
    """Parse the command line with the parser of its one verb, and run that."""
    if words and words[0] in QUICK:
        module = import_module(f"layerfs.cli.{words[0]}")
        quick = module.quick(words[1:])
        if quick is not None:
            return int(module.run(quick))
    gc.enable()
    from layerfs.cli.parser import GROUPS, VERBS, build_parser, parser_of

    verb = next((word for word in words if not word.startswith("-")), "")
    part = words[words.index(verb) + 1 :][:1] if verb in GROUPS else []
    parser = build_parser((verb,) if verb in VERBS else VERBS, *part)
    if not verb:
        parser.refuse_without_verb(words)
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


if __name__ == "__main__":
    sys.exit(main())
