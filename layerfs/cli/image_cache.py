"""`layerfs image cache`: an image's layers as packages in the package cache."""

import argparse
import os

from layerfs.cli.store_options import add_store_options, opened
from layerfs.sys.terminal import one_line


def add_parser(parts: "argparse._SubParsersAction[argparse.ArgumentParser]", part: str) -> None:
    """Add the verb."""
    parser = parts.add_parser(
        part,
        help="keep an image's layers in the package cache",
        description="Add each layer of an image to the package cache (`layerfs cache`), as a XAR named by its ChainID. "
        "`layerfs serve`, of any store on this host, takes a layer from there when containerd asks for it, so it is "
        "not downloaded, whether or not the image is still in a store.",
    )
    parser.add_argument("image", metavar="IMAGE")
    add_store_options(parser, snapshotter=True)


def run(arguments: argparse.Namespace) -> int:
    """Add the layers, the lowest first, then evict what is beyond the cache's bound."""
    from layerfs.cli.cache import mounted_files
    from layerfs.cli.screen import size
    from layerfs.cli.stacking import unpacked
    from layerfs.oci.cached import keep
    from layerfs.oci.images import Images
    from layerfs.store import eviction
    from layerfs.store.cache import Cache

    cache = Cache.own()
    added = []
    try:
        with opened(arguments) as store:
            images = Images(store)
            snapshotter = store.snapshotter(arguments.snapshotter)
            for chain in unpacked(images, images.get(arguments.image), snapshotter):
                added.append(keep(cache, snapshotter, chain))
        eviction.sweep(cache, eviction.bound(), mounted_files())
    finally:
        for each in added:
            os.close(each.held)
    stored = [each.entry for each in added if each.stored]
    total = f"{len(added)} layer{'s' if len(added) != 1 else ''}"
    print(one_line(f"{arguments.image}: stored {len(stored)} of {total}, {size(sum(each.size for each in stored))}"))
    return 0
