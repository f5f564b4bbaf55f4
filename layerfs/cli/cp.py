"""`layerfs cp`: files from one snapshot, or image, into an active snapshot."""

import argparse
import os
from typing import TYPE_CHECKING

from layerfs.cli.screen import complain
from layerfs.cli.store_options import add_store_options, opened
from layerfs.errors import NotFound, WrongUsage
from layerfs.sys.terminal import one_line

if TYPE_CHECKING:
    from layerfs.snapshots.library import Store
    from layerfs.snapshots.snapshotter import Snapshotter


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser(
        "cp",
        help="copy files between snapshots",
        description="Copy a file or tree as `cp -a` does, with owners, modes, xattrs, times and hard links, reflinked "
        "where the filesystem can, and without a mount. A directory that is there gets the copy into it; SOURCE/. "
        "means what is in a directory.",
    )
    parser.add_argument("source", metavar="SNAPSHOT:/PATH", help="a snapshot's key or name, or an image")
    parser.add_argument("target", metavar="KEY:/PATH", help="an active snapshot that is not mounted")
    add_store_options(parser, snapshotter=True)


def run(arguments: argparse.Namespace) -> int:
    """Copy."""
    from layerfs.oci.copying import copy

    source, path = _split(arguments.source)
    target, to = _split(arguments.target)
    with opened(arguments) as store:
        snapshotter = store.snapshotter(arguments.snapshotter)
        done = copy(snapshotter, _snapshot(store, snapshotter, source), path, target, to)
    complain([f"left out: /{os.fsdecode(where)} {why}" for where, why in done.left_out])
    print(one_line(f"{arguments.target}: {done.entries} entries"))
    return int(bool(done.left_out))


def _split(text: str) -> tuple[str, bytes]:
    key, colon, path = text.rpartition(":/")
    if not colon or not key:
        raise WrongUsage(f"{text!r} is no place in a snapshot", "such as KEY:/etc/passwd")
    return key, os.fsencode(path)


def _snapshot(store: "Store", snapshotter: "Snapshotter", name: str) -> str:
    """Return the snapshot that a name means: its own, or the topmost of an image."""
    from layerfs.cli.stacking import unpacked
    from layerfs.oci.images import Images

    try:
        snapshotter.stat(name)
    except NotFound:
        images = Images(store)
        chain = unpacked(images, images.get(name), snapshotter)
        if not chain:
            raise
        return chain[-1]
    return name
