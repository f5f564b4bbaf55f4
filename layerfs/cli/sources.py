"""The sources of graphs, opened with what a command line knows: its store of images, its caches of packages."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from layerfs.plan.sources import GraphSource, SourceSpec
from layerfs.plan.sources import opened as opened_source

if TYPE_CHECKING:
    from layerfs.oci.documents import Json
    from layerfs.xar.search import Search


def opened(words: SourceSpec) -> AbstractContextManager[GraphSource]:
    """Open a source. Images come from the store that LAYERFS_ROOT names, and are pulled if it does not have them."""
    return opened_source(words, image_layers, _search)


def image_layers(reference: str) -> list[bytes]:
    """Return the layers of an image, unpacked, top first."""
    from layerfs.cli.stacking import find, unpacked
    from layerfs.oci.images import Images
    from layerfs.snapshots.library import open_store

    with open_store() as store:
        images = Images(store)
        snapshotter = store.snapshotter()
        chain = unpacked(images, find(images, reference), snapshotter)
        return list(snapshotter.stack(chain[-1]).lowers) if chain else []


def image_config(reference: str) -> "Json":
    """Return the config of an image whose layers were asked for before; empty for an artifact."""
    from layerfs.oci.images import Images
    from layerfs.snapshots.library import open_store

    with open_store() as store:
        images = Images(store)
        config = images.load(images.get(reference)).config
        return config.raw if config is not None else {}


def _search() -> "Search":
    from layerfs.store.cache import Cache
    from layerfs.xar.search import Search

    return Search.from_environment(Cache.all)
