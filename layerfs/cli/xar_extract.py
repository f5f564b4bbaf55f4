"""`layerfs xar extract`: a package's tree, as files."""

import argparse
import os
from collections.abc import Sequence

from layerfs.cli.screen import bar, complain
from layerfs.cli.xar import add_file
from layerfs.pysquashfs.trail import Trail
from layerfs.sys.terminal import one_line
from layerfs.xar.extract import ExtractOptions, extract
from layerfs.xar.package import opened


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser(
        "extract",
        help="write a XAR's tree to a directory",
        description="Write what is in a XAR or squashfs image to a directory, with modes, times, links, holes and the "
        "xattrs that are permitted. Nothing is written outside that directory, whatever the image says. Without root, "
        "devices, setuid bits and owners are left out with a warning. Exit status 1 if anything else is left out.",
    )
    add_file(parser)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="only this and what is below it")
    parser.add_argument("-C", "--to", required=True, metavar="DIR", help="where to; made if it is missing")
    parser.add_argument("--owners", action="store_true", help="set owners, and fail where that cannot be")
    parser.add_argument("--force", action="store_true", help="into a directory that is not empty, over what is there")


def run(arguments: argparse.Namespace) -> int:
    """Extract, and say what was left out."""
    options = ExtractOptions(tuple(map(os.fsencode, arguments.paths)), arguments.owners, arguments.force)
    file = os.fsencode(arguments.file)
    with opened(file, arguments.offset) as package, bar(f"extracting {arguments.file}") as progress:
        outcome = extract(package.image, os.fsencode(arguments.to), options, progress)
    complain(_lines("warning", outcome.waived))
    complain(_lines("left out", outcome.left_out))
    left = f", {len(outcome.left_out)} left out" if outcome.left_out else ""
    print(one_line(f"{arguments.to}: {outcome.entries} entries{left}"))
    return int(bool(outcome.left_out))


def _lines(word: str, notes: Sequence[tuple[Trail, str]]) -> list[str]:
    return [f"{word}: /{os.fsdecode(path.shown)}: {why}" for path, why in notes]
