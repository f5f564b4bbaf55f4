"""Layers of images in the package cache: each a XAR, named by its ChainID, of what the layer changes of those below.

    packages/sha256-HEX.trusted.xar/...   marks are trusted.* xattrs, as root has them
    packages/sha256-HEX.user.xar/...      marks are user.* xattrs, as a user namespace has them

So a layer outlives the store that it was unpacked in, and serves any other on the host. A cache is believed, as its
owner is (layerfs.store.cache); what a package in it holds is a stranger's content.
"""

import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from layerfs.errors import Corrupt, LayerfsError, NotFound, Unsupported
from layerfs.oci.layer import Destination, apply_layer
from layerfs.oci.produce import Difference, produce_layer
from layerfs.oci.streams import reader_of
from layerfs.oci.target import TargetForm
from layerfs.pysquashfs.target import replacing
from layerfs.snapshots.driver import Form, LayerPlace
from layerfs.snapshots.snapshotter import Snapshotter
from layerfs.store.cache import Cache
from layerfs.store.entry import CacheEntry
from layerfs.store.intake import Added, add
from layerfs.sys.copy import copy_data
from layerfs.sys.namespaces import trusted_xattrs
from layerfs.xar.builder import Recipe, build
from layerfs.xar.extract import ExtractOptions, extract
from layerfs.xar.package import opened

_CHAIN: Final = re.compile(r"sha256:([0-9a-f]{64})")
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
LEVEL: Final = 1  # of zstd, as the packer of snapshots has it


def name_of(chain: str) -> bytes:
    """Return the name of a layer's package; empty for what is no ChainID."""
    match = _CHAIN.fullmatch(chain)
    marks = "trusted" if trusted_xattrs() else "user"
    return b"" if match is None else f"sha256-{match[1]}.{marks}.xar".encode()


def keep(cache: Cache, snapshotter: Snapshotter, chain: str) -> Added:
    """Add the layer of a committed snapshot to a cache, under its ChainID; the caller closes `held`.

    Raises Unsupported for a driver that keeps whole trees, and for what no squashfs image can hold; NotFound, OSError.
    """
    place = snapshotter.layer(chain)
    if place.form is Form.WHOLE:
        said = f"the snapshots of {snapshotter.name} are whole trees, not layers"
        raise Unsupported(said, "import the image with --snapshotter xar, overlay or fuse")
    if os.path.isfile(place.path):
        return add(cache, place.path, None, name_of(chain))
    with tempfile.TemporaryDirectory(prefix="layerfs-keep-") as scratch:
        output = os.path.join(os.fsencode(scratch), b"layer.xar")
        built = build(Recipe((place.path,), output, version=0, level=LEVEL, keep_owners=True, xattr_table=True))
        if built.dropped:
            path, name = map(os.fsdecode, built.dropped[0])
            raise Unsupported(f"a squashfs image cannot hold the attribute {name} of {path or '/'}")
        return add(cache, output, None, name_of(chain))


@contextmanager
def found(chain: str) -> Iterator[bytes]:
    """Yield the path of a layer's package, which is not evicted meanwhile; empty if no cache has it.

    Raises Corrupt, InvalidArgument for a cache that others can write to.
    """
    name = name_of(chain)
    for cache in Cache.all() if name else ():
        for entry in sorted(cache.versions(name), key=_added, reverse=True):
            with suppress(NotFound):  # evicted meanwhile
                held = cache.hold(entry, wait=True)
                try:
                    yield cache.checked(entry)
                finally:
                    os.close(held)
                return
    yield b""


def _added(entry: CacheEntry) -> float:
    return entry.added


def unpack(package: bytes, snapshotter: Snapshotter, key: str) -> None:
    """Fill an active snapshot that is empty with the layer in a package.

    Raises Corrupt for a layer that cannot be written whole, Unsupported, NotReady, OSError; the snapshot is then to be
    removed.
    """
    place = snapshotter.writable_layer(key)
    if place.form is Form.WHOLE:
        parent = snapshotter.stat(key).parent
        _apply(package, place, snapshotter.stack(parent).lowers if parent else ())
    elif place.image is not None:
        _copy(package, place.image)
    else:
        _extract(package, place.path)


def _copy(package: bytes, image: bytes) -> None:
    source = os.open(package, _FILE)
    try:
        with replacing(image) as fd:
            copy_data(source, fd, os.fstat(source).st_size)
    finally:
        os.close(source)


def _extract(package: bytes, directory: bytes) -> None:
    os.rmdir(directory)  # so that the root gets what the package says of it
    with opened(package) as shown:
        outcome = extract(shown.image, directory, ExtractOptions(owners=True))
    if outcome.left_out or outcome.waived:
        path, why = (outcome.left_out + outcome.waived)[0]
        raise Corrupt(f"a layer of the cache cannot be written whole: /{os.fsdecode(path.shown)} {why}")


def _apply(package: bytes, place: LayerPlace, lowers: Sequence[bytes]) -> None:
    """Write a layer into a copy of the tree below it, by way of a tar that is nowhere."""
    reading, writing = os.pipe()
    wrong: list[Exception] = []

    def produce() -> None:
        try:
            with open(writing, "wb") as pipe:
                produce_layer(Difference(package, TargetForm.OVERLAY, lowers), pipe.write)
        except (OSError, LayerfsError) as error:
            wrong.append(error)

    producer = threading.Thread(target=produce, name="layerfs-cached")
    producer.start()
    try:
        root = os.open(place.path, _DIRECTORY)
        try:
            apply_layer(reader_of(reading), Destination(root, TargetForm.PLAIN))
        finally:
            os.close(root)
    finally:
        os.close(reading)
        producer.join()
    for error in wrong:
        raise error
