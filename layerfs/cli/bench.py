"""`layerfs bench`: the benchmark harness, which lives beside the package in the project's work tree."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from layerfs.errors import NotFound

PROJECT = Path(__file__).parents[2]


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
    """Return the module `benchmarks.__main__`, found on the path or in the work tree of an editable install."""
    if importlib.util.find_spec("benchmarks") is None and (PROJECT / "benchmarks/__main__.py").exists():
        sys.path.insert(0, str(PROJECT))
    try:
        return importlib.import_module("benchmarks.__main__")
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == "benchmarks":
            raise NotFound("the benchmark harness is not installed with the package",
                           "run it from a work tree of layerfs: make bench") from error
        raise NotFound(f"the benchmark harness needs {error.name}", "pip install layerfs[bench]") from error
