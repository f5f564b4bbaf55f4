"""`layerfs image import` and `export`: between a store and files."""

import argparse
import os
import sys

from layerfs.cli.layer_progress import LayerProgress
from layerfs.cli.screen import bar, complain
from layerfs.cli.store_options import add_max_size, add_store_options, limits_of, opened
from layerfs.errors import InvalidArgument
from layerfs.sys.terminal import one_line


def add_parser(parts: "argparse._SubParsersAction[argparse.ArgumentParser]", part: str) -> None:
    """Add one of the verbs."""
    if part == "import":
        parser = parts.add_parser(
            "import",
            help="take an image in from a file",
            description="Take images in from an OCI layout (a directory or a tar) or a docker-archive, and unpack "
            "their layers into snapshots named by ChainID. All digests are checked. `-`: an archive on standard input.",
        )
        parser.add_argument("path", metavar="PATH")
        parser.add_argument("name", nargs="?", metavar="NAME", help="what it is called (default: what it says itself)")
        parser.add_argument("--all-platforms", action="store_true", help="all that an index has, not only ours")
        parser.add_argument("--no-unpack", action="store_true", help="store the image only")
        add_max_size(parser)
        add_store_options(parser, snapshotter=True, platform=True)
        return
    parser = parts.add_parser(
        "export",
        help="write an image to a file",
        description="Write an image as an OCI layout: a tar (oci), or its directory (oci-dir); or as a docker-archive.",
    )
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("-o", "--output", required=True, metavar="PATH", help="where to; - is standard output")
    parser.add_argument("--format", choices=("oci", "oci-dir", "docker"), default="oci")
    add_max_size(parser)
    add_store_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    return _export(arguments) if arguments.part == "export" else _import(arguments)


def _import(arguments: argparse.Namespace) -> int:
    from layerfs.oci.images import Images
    from layerfs.oci.intake import FromSource, Intake, IntakeOptions
    from layerfs.oci.naming import name_roots
    from layerfs.oci.platforms import parse_platform
    from layerfs.oci.sources import open_source

    path = os.fsencode(arguments.path)
    platform = parse_platform(arguments.platform) if arguments.platform else None
    limits = limits_of(arguments)
    with (
        opened(arguments) as store,
        open_source(path, store.root, most=limits.size) as source,
        LayerProgress() as layers,
    ):
        snapshotter = None if arguments.no_unpack else store.snapshotter(arguments.snapshotter)
        wishes = IntakeOptions(platform, arguments.all_platforms, snapshotter, limits)
        for names, top in name_roots(source.roots(), path, arguments.name):
            intake = Intake(Images(store), FromSource(source), wishes, layers.progress)
            for image in intake.take(names, top):
                layers.say(f"{image.name} {image.top.digest}")
            complain([f"warning: /{os.fsdecode(where)}: {why}" for where, why in intake.waived])
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from layerfs.oci.export import export
    from layerfs.oci.images import Images

    output = os.fsencode(arguments.output)
    if output == b"-" and (arguments.format == "oci-dir" or sys.stdout.isatty()):
        raise InvalidArgument("an archive is not written to a terminal, nor a directory to standard output")
    with opened(arguments) as store, bar(f"exporting {arguments.image}") as progress:
        images = Images(store)
        image = images.get(arguments.image)
        export(images, image, output, arguments.format, progress, limits_of(arguments))
    if output != b"-":
        print(one_line(f"{arguments.output}: {image.name}"))
    return 0
