"""`layerfs pull`: an image from a registry."""

import argparse
import os

from layerfs.cli.layer_progress import LayerProgress
from layerfs.cli.screen import complain
from layerfs.cli.store_options import add_max_size, add_store_options, limits_of, opened


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser(
        "pull",
        help="take an image in from a registry",
        description="Fetch an image with all digests checked, and unpack its layers into snapshots. What broke off is "
        "gone on with by the next pull. Credentials are those of docker and podman; they go to the registry only.",
    )
    parser.add_argument("image", metavar="REF", help="HOST/REPOSITORY[:TAG][@DIGEST]")
    parser.add_argument("-o", "--output", metavar="DIR", help="of an artifact of XARs: write its files there")
    parser.add_argument("--all-platforms", action="store_true", help="all that an index has, not only ours")
    parser.add_argument("--referrers", action="store_true", help="what refers to it too: signatures, SBOMs")
    parser.add_argument("--no-unpack", action="store_true", help="store the image only")
    parser.add_argument("--insecure", action="store_true", help="plain HTTP")
    add_max_size(parser)
    add_store_options(parser, snapshotter=True, platform=True)


def run(arguments: argparse.Namespace) -> int:
    """Pull."""
    from layerfs.oci.images import Images
    from layerfs.oci.intake import IntakeOptions
    from layerfs.oci.platforms import parse_platform
    from layerfs.oci.transfer import pull

    platform = parse_platform(arguments.platform) if arguments.platform else None
    with opened(arguments) as store, LayerProgress() as layers:
        snapshotter = None if arguments.no_unpack else store.snapshotter(arguments.snapshotter)
        wishes = IntakeOptions(platform, arguments.all_platforms, snapshotter, limits_of(arguments))
        done = pull(
            Images(store),
            arguments.image,
            wishes,
            insecure=arguments.insecure,
            referrers=arguments.referrers,
            progress=layers.progress,
        )
        for image in done.images:
            layers.say(f"{image.name} {image.top.digest}")
        if arguments.output is not None:
            from layerfs.oci.artifacts import write_packages

            for path in write_packages(Images(store), done.images[0], os.fsencode(arguments.output)):
                layers.say(os.fsdecode(path))
    complain([f"warning: /{os.fsdecode(where)}: {why}" for where, why in done.waived])
    return 0
