"""`layerfs push`: an image into a registry."""

import argparse

from layerfs.cli.image import add_store_options, opened
from layerfs.cli.layers import Layers


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser(
        "push",
        help="send an image to a registry",
        description="Send an image of the store. What the registry has is not sent; what another repository of it has "
        "is mounted from there.",
    )
    parser.add_argument("image", metavar="IMAGE", help="an image of the store")
    parser.add_argument("reference", nargs="?", metavar="REF", help="what it is called there (default: the same)")
    parser.add_argument(
        "--mount-from", action="append", default=[], metavar="REPOSITORY", help="that may have its blobs"
    )
    parser.add_argument("--referrers", action="store_true", help="what refers to it too: signatures, SBOMs")
    parser.add_argument("--insecure", action="store_true", help="plain HTTP")
    add_store_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Push."""
    from layerfs.oci.images import Images
    from layerfs.oci.transfer import push

    with opened(arguments) as store, Layers() as layers:
        pushed = push(
            Images(store),
            arguments.image,
            arguments.reference or arguments.image,
            insecure=arguments.insecure,
            referrers=arguments.referrers,
            mount_from=tuple(arguments.mount_from),
            progress=layers.progress,
        )
        for name, digest in pushed:
            layers.say(f"{name} {digest}")
    return 0
