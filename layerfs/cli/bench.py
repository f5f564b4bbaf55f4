"""`layerfs bench`: the benchmark harness, which lives beside the package in the project's work tree.

Where the package is installed without its work tree, the verb is not offered (VERBS in parser.py).
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

from layerfs.cli.parser import WORK_TREE
from layerfs.errors import NotFound


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb; its arguments are the harness's own, see `layerfs bench run --help`."""
    # No word looks like an option to this parser: all of them are the harness's, --help too.
    about = "measure layerfs and its peers on this host"
    verb = subparsers.add_parser("bench", help=about, add_help=False, prefix_chars="\0")
    verb.add_argument("arguments", nargs="*")
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Hand over to the harness; it is loaded at run time because `layerfs` must work without it."""
    status: int = harness().main(args.arguments)
    return status


def harness() -> Any:
    """Return the module `benchmarks.__main__` of the work tree."""
    if WORK_TREE not in sys.path:
        sys.path.insert(0, WORK_TREE)
    try:
        return importlib.import_module("benchmarks.__main__")
    except ModuleNotFoundError as error:
        raise NotFound(f"the benchmark harness needs {error.name}", "run `make bench`, which installs it") from error
