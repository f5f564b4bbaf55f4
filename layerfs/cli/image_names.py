"""`layerfs image rm` and `tag`."""

import argparse

from layerfs.cli.image import add_store_options, opened
from layerfs.sys.terminal import one_line


def add_parser(parts: "argparse._SubParsersAction[argparse.ArgumentParser]", part: str) -> None:
    """Add one of the verbs."""
    if part == "rm":
        parser = parts.add_parser(
            "rm",
            help="remove images",
            description="Remove names of images. What no other image needs goes too, but for snapshots that others "
            "stand on.",
        )
        parser.add_argument("images", nargs="+", metavar="IMAGE")
    else:
        parser = parts.add_parser("tag", help="give an image another name", description="Give an image another name.")
        parser.add_argument("image", metavar="IMAGE")
        parser.add_argument("name", metavar="NAME")
    add_store_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    from layerfs.oci.images import Images

    with opened(arguments) as store:
        images = Images(store)
        if arguments.part == "tag":
            print(one_line(images.tag(arguments.image, arguments.name).name))
            return 0
        for name in arguments.images:
            print(one_line(images.remove(name).name))
    return 0
