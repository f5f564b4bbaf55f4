"""Options that name a store, and what is taken from or into it; the store opened."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse
    from types import SimpleNamespace

    from layerfs.oci.target import Limits
    from layerfs.snapshots.library import Store

    Arguments = argparse.Namespace | SimpleNamespace

ROOT: Final = "the store (default: LAYERFS_ROOT, or the user's own)"


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
