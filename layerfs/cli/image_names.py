"""`layerfs image rm` and `tag`."""

from typing import TYPE_CHECKING, Final

from layerfs.cli.grammar import Grammar, Option, Word, add_to
from layerfs.cli.store_options import ROOT, opened
from layerfs.sys.terminal import one_line

if TYPE_CHECKING:
    import argparse

    from layerfs.cli.store_options import Arguments

_ROOT: Final = (Option("--root", ROOT, "DIR"),)
GRAMMARS: Final = {
    "rm": Grammar((Word("images", "IMAGE", count="+"),), _ROOT),
    "tag": Grammar((Word("image", "IMAGE"), Word("name", "NAME")), _ROOT),
}


def add_parser(parts: "argparse._SubParsersAction[argparse.ArgumentParser]", part: str) -> None:
    """Add one of the verbs."""
    if part == "rm":
        parser = parts.add_parser(
            "rm",
            help="remove images",
            description="Remove names of images. What no other image needs goes too, but for snapshots that others "
            "stand on.",
        )
    else:
        parser = parts.add_parser("tag", help="give an image another name", description="Give an image another name.")
    add_to(parser, GRAMMARS[part])


def run(arguments: "Arguments") -> int:
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
