"""`layerfs xar`: the verbs about XAR packages; each has a module of its own, imported when it is asked for."""

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

from layerfs.sys.reach import see_that_they_answer

if TYPE_CHECKING:
    import argparse

    Arguments = argparse.Namespace | SimpleNamespace

_DIGITS: Final = 20  # of a number of bytes, fewer than these: 2**63 has 19
PARTS: Final = ("build", "info", "ls", "verify", "extract", "graph", "mount", "exec")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", asked: str = "") -> None:
    """Add this verb to the command line, with the one part that is asked for, or with all of them."""
    parser = subparsers.add_parser(
        "xar",
        help="build, check and mount XAR packages",
        description="A XAR is a file that runs: a header in text, then a squashfs image with the program and its tree.",
    )
    parts = parser.add_subparsers(prog="layerfs xar", metavar="VERB", dest="part", required=True)
    for part in (asked,) if asked in PARTS else PARTS:
        import_module(f"layerfs.cli.xar_{part}").add_parser(parts)


def quick(arguments: Sequence[str]) -> SimpleNamespace | None:
    """Return what argparse would make of a well-formed line of `exec`, which every start of a program in a XAR is."""
    if arguments[:1] != ["exec"]:
        return None
    from layerfs.cli.xar_exec import quick as quick_exec

    return quick_exec(arguments[1:])


def add_file(parser: "argparse.ArgumentParser") -> None:
    """Add the file that a verb reads an image from, and where in it that begins."""
    parser.add_argument("file", metavar="FILE", help="a XAR or a squashfs image")
    add_offset(parser)


def add_offset(parser: "argparse.ArgumentParser") -> None:
    """Add where an image begins in a file that is more than an image."""
    parser.add_argument(
        "--offset", type=_bytes, default=0, metavar="BYTES", help="where the image begins in a file such as an AppImage"
    )


def _bytes(word: str) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) < _DIGITS and int(word) < 1 << 63):
        from argparse import ArgumentTypeError

        raise ArgumentTypeError(f"{word!r} is no number of bytes")
    return int(word)


def run(arguments: "Arguments") -> int:
    """Do the part that was asked for."""
    files = [getattr(arguments, "file", None), *(getattr(arguments, "paths", None) or ())]
    see_that_they_answer(os.fsencode(path) for path in files if path)
    part: Callable[[Arguments], int] = import_module(f"layerfs.cli.xar_{arguments.part}").run
    return part(arguments)
