"""`layerfs push`: an image into a registry."""

import argparse
import os
from typing import TYPE_CHECKING

from layerfs.cli.layer_progress import LayerProgress
from layerfs.cli.store_options import add_store_options, opened
from layerfs.errors import WrongUsage

if TYPE_CHECKING:
    from layerfs.oci.images import Images


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser(
        "push",
        help="send an image to a registry",
        description="Send an image of the store. What the registry has is not sent; what another repository of it has "
        "is mounted from there. A XAR's path sends it with all that it depends on, as one artifact; `layerfs pull -o` "
        "writes that again.",
    )
    parser.add_argument("image", metavar="IMAGE|XAR", help="an image of the store, or a XAR")
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

    with opened(arguments) as store, LayerProgress() as layers:
        images = Images(store)
        name = _packed(images, arguments) if os.path.isfile(arguments.image) else arguments.image
        pushed = push(
            images,
            name,
            arguments.reference or name,
            insecure=arguments.insecure,
            referrers=arguments.referrers,
            mount_from=tuple(arguments.mount_from),
            progress=layers.progress,
        )
        for name, digest in pushed:
            layers.say(f"{name} {digest}")
    return 0


def _packed(images: "Images", arguments: argparse.Namespace) -> str:
    """Record a XAR and what it depends on under the name that it is to have, and return that."""
    from layerfs.model import Stack
    from layerfs.mounts.packages import complete
    from layerfs.oci.artifacts import add_packages

    if arguments.reference is None:
        raise WrongUsage("a XAR has no name in a registry", "layerfs push FILE.xar HOST/REPOSITORY:TAG")
    path = os.path.abspath(os.fsencode(arguments.image))
    members = complete(Stack((path,))).stack.lowers
    rest = [member for member in members if not os.path.samefile(member, path)]
    return add_packages(images, arguments.reference, [path, *rest]).name
