"""`layerfs image commit`: an image from an active snapshot."""

import argparse
import json
import os
from typing import Any

from layerfs.cli.screen import complain
from layerfs.cli.store_options import add_store_options, opened
from layerfs.errors import WrongUsage
from layerfs.sys.terminal import one_line


def add_parser(parts: "argparse._SubParsersAction[argparse.ArgumentParser]", part: str) -> None:
    """Add the verb."""
    parser = parts.add_parser(
        part,
        help="make an image of an active snapshot",
        description="Add what a snapshot changes as one layer to the image that it stands on. The snapshot stays.",
    )
    parser.add_argument("key", metavar="KEY", help="an active snapshot that nobody writes to")
    parser.add_argument("name", metavar="NAME", help="of the new image")
    parser.add_argument(
        "-c", "--change", action="append", default=[], metavar="KEY=JSON", help="such as Cmd='[\"/x\"]'"
    )
    parser.add_argument("-m", "--message", default="", metavar="TEXT", help="a comment in the image's history")
    parser.add_argument("--author", default="", metavar="TEXT")
    parser.add_argument("--compression", choices=("gzip", "zstd", "none"), default="gzip")
    parser.add_argument("--whole-seconds", action="store_true", help="times as other writers have them")
    add_store_options(parser, snapshotter=True)


def run(arguments: argparse.Namespace) -> int:
    """Commit."""
    from layerfs.oci.commit import NewImage, commit
    from layerfs.oci.images import Images
    from layerfs.oci.write import Style

    wanted = NewImage(
        "" if arguments.compression == "none" else arguments.compression,
        dict(map(_change, arguments.change)),
        arguments.message,
        arguments.author,
        style=Style(exact=not arguments.whole_seconds),
    )
    with opened(arguments) as store:
        done = commit(Images(store), store.snapshotter(arguments.snapshotter), arguments.key, arguments.name, wanted)
    complain([f"left out: /{os.fsdecode(path)} {why}" for path, why in done.layer.left_out])
    print(one_line(f"{done.image.name} {done.image.top.digest}"))
    return 0


def _change(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key:
        raise WrongUsage(f"{text!r} changes nothing", "give KEY=JSON, such as User=nobody")
    try:
        return key, json.loads(value) if equals else None
    except ValueError:
        return key, value  # a text without quotes
