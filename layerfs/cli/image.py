"""`layerfs image`: the verbs about images in a store; their modules are imported when they are asked for."""

from collections.abc import Callable, Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse

    from layerfs.cli.store_options import Arguments

PARTS: Final = {
    "import": "image_files", "export": "image_files", "ls": "image_show", "inspect": "image_show",
    "history": "image_show", "verify": "image_show", "rm": "image_names", "tag": "image_names", "mount": "image_run",
    "run": "image_run", "commit": "image_commit", "cache": "image_cache",
}  # fmt: skip


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", asked: str = "") -> None:
    """Add this verb to the command line, with the one part that is asked for, or with all of them."""
    parser = subparsers.add_parser(
        "image",
        help="images: import, show, run, export",
        description="Images in OCI's and docker's formats, kept in a store by name; their layers are snapshots.",
    )
    parts = parser.add_subparsers(prog="layerfs image", metavar="VERB", dest="part", required=True)
    for part in (asked,) if asked in PARTS else PARTS:
        import_module(f"layerfs.cli.{PARTS[part]}").add_parser(parts, part)


def quick(arguments: Sequence[str]) -> SimpleNamespace | None:
    """Return what argparse would make of a well-formed `rm` or `tag`; None for all that it must look at itself."""
    if not arguments or PARTS.get(arguments[0]) != "image_names":
        return None
    from layerfs.cli.grammar import read
    from layerfs.cli.image_names import GRAMMARS

    found = read(arguments[1:], GRAMMARS[arguments[0]])
    if found is not None:
        found.part = arguments[0]
    return found


def run(arguments: "Arguments") -> int:
    """Do the part that was asked for."""
    part: Callable[[Arguments], int] = import_module(f"layerfs.cli.{PARTS[arguments.part]}").run
    return part(arguments)
