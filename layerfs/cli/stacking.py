"""Images among layers: a name that is no path stands for all layers of that image, pulled if need be."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from layerfs.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from layerfs.oci.images import Image, Images
    from layerfs.snapshots.snapshotter import Snapshotter


def expand(layers: Sequence[bytes]) -> list[bytes]:
    """Return layers with the names of images replaced by what these consist of, top first."""
    found: list[bytes] = []
    for layer in layers:
        found += [layer] if os.path.lexists(layer) else _image_layers(layer)
    return found


def _image_layers(name: bytes) -> list[bytes]:
    from layerfs.oci.images import Images
    from layerfs.snapshots.library import open_store

    text = os.fsdecode(name)
    try:
        from layerfs.oci.reference import parse_reference

        parse_reference(text)
    except InvalidArgument:
        return [name]  # a path that is not there: whoever opens it says so
    with open_store() as store:
        images = Images(store)
        try:
            image = find(images, text)
        except (NotFound, InvalidArgument):
            if "/" not in text or text.startswith(("/", ".")):
                return [name]
            raise
        snapshotter = store.snapshotter()
        chain = unpacked(images, image, snapshotter)
        return list(snapshotter.stack(chain[-1]).lowers) if chain else [name]


def find(images: "Images", text: str, *, insecure: bool = False) -> "Image":
    """Return an image of the store, pulled if it is not there and its name says from where."""
    from layerfs.oci.reference import parse_reference

    try:
        return images.get(text)
    except NotFound:
        if not parse_reference(text).host and not os.environ.get("LAYERFS_REGISTRY"):
            raise
    from layerfs.cli.layer_progress import LayerProgress
    from layerfs.oci.intake import IntakeOptions
    from layerfs.oci.transfer import pull

    with LayerProgress() as layers:
        return pull(images, text, IntakeOptions(), insecure=insecure, progress=layers.progress).images[0]


def unpacked(images: "Images", image: "Image", snapshotter: "Snapshotter") -> list[str]:
    """Return an image's snapshots, bottom first, unpacked if they are not there; they are held by it then."""
    from layerfs.oci.images import SNAPSHOT
    from layerfs.oci.unpack import Unpacking
    from layerfs.snapshots.leftovers import unpacking

    with unpacking(images.store):
        chain = Unpacking(images.store.content, snapshotter, images.load(image)).run()
        holds = images.holds(image)
        names = [f"{SNAPSHOT}{snapshotter.name}/{name}" for name in chain]
        if not set(names) <= set(holds):
            images.put(image.name, image.top, image.chosen, dict.fromkeys([*holds, *names]))
    return list(chain)
