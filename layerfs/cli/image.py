"""`layerfs image`: the verbs about images in a store; their modules are imported when they are asked for."""

from collections.abc import Callable, Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse

    from layerfs.oci.target import Limits
    from layerfs.snapshots.library import Store

    Arguments = argparse.Namespace | SimpleNamespace

PARTS: Final = {
    "import": "image_files", "export": "image_files", "ls": "image_show", "inspect": "image_show",
    "history": "image_show", "verify": "image_show", "rm": "image_names", "tag": "image_names", "mount": "image_run",
    "run": "image_run", "commit": "image_commit", "cache": "image_cache",
}  # fmt: skip
ROOT: Final = "the store (default: LAYERFS_ROOT, or the user's own)"


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


def add_store_options(parser: "argparse.ArgumentParser", *, snapshotter: bool = False, platform: bool = False) -> None:
    """Add the options that say which store, and what is taken from or into it."""
    parser.add_argument("--root", metavar="DIR", help=ROOT)
    if snapshotter:
        parser.add_argument("--snapshotter", metavar="NAME", default="auto", help="who keeps the layers (auto)")
    if platform:
        parser.add_argument("--platform", metavar="OS/ARCH", help="of an image for several (default: this machine's)")


def add_max_size(parser: "argparse.ArgumentParser") -> None:
    """Add the option that bounds what a layer becomes."""
    parser.add_argument("--max-size", metavar="SIZE", help="refuse layers that unpack to more, such as 10G (256G)")


def limits_of(arguments: "argparse.Namespace") -> "Limits":
    """Return what a layer may cost, as the arguments have it."""
    from layerfs.oci.target import USUAL, Limits
    from layerfs.store.eviction import parse_size

    return USUAL if arguments.max_size is None else Limits(size=parse_size(arguments.max_size))


def opened(arguments: "Arguments") -> "Store":
    """Open the store that the arguments name."""
    from layerfs.snapshots.library import open_store

    return open_store(arguments.root)
