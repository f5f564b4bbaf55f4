"""XARs as OCI artifacts: one layer for each file, so that only what has changed is sent.

The package itself comes first, then what it depends on.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from layerfs.errors import Corrupt, InvalidArgument, Unsupported
from layerfs.oci.digest import digest_of
from layerfs.oci.documents import EMPTY_CONFIG, MANIFEST, Descriptor, dump_json
from layerfs.oci.images import Image, Images
from layerfs.pysquashfs.target import replacing
from layerfs.sys.copy import copy_data

TYPE: Final = "application/vnd.layerfs.xar.v1"
FILE: Final = "application/vnd.layerfs.xar.file.v1"
TITLE: Final = "org.opencontainers.image.title"
_EMPTY: Final = b"{}"
_MODE: Final = 0o755  # a XAR is a program


def add_packages(images: Images, name: str, paths: Sequence[bytes]) -> Image:
    """Record files as one artifact under a name. Raises InvalidArgument for two of one name, OSError."""
    titles = [os.fsdecode(os.path.basename(path)) for path in paths]
    if len(set(titles)) != len(titles):
        raise InvalidArgument("two packages of an artifact have one name")
    with ExitStack() as held:
        layers = []
        for path, title in zip(paths, titles, strict=True):
            blob = images.store.content.adopt(path)
            held.callback(os.close, blob.held)
            layers.append(
                {
                    "mediaType": FILE,
                    "digest": blob.blob.digest,
                    "size": blob.blob.size,
                    "annotations": {TITLE: title},
                }
            )
        config = {"mediaType": EMPTY_CONFIG, "digest": digest_of(_EMPTY), "size": len(_EMPTY)}
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": TYPE, "config": config, "layers": layers}
        manifest = dump_json(document)
        for data in (_EMPTY, manifest):
            held.callback(os.close, images.keep(data))
        top = Descriptor(MANIFEST, digest_of(manifest), len(manifest))
        holds = [top.digest, digest_of(_EMPTY), *(str(layer["digest"]) for layer in layers)]
        return images.put(name, top, top, dict.fromkeys(holds))


def write_packages(images: Images, image: Image, directory: bytes) -> list[bytes]:
    """Write an artifact's files into a directory, each whole or not at all; return their paths, the package's first.

    Raises Unsupported for what is no such artifact, Corrupt for names that are none.
    """
    manifest = images.load(image).manifest
    if manifest.raw.get("artifactType") != TYPE:
        raise Unsupported(f"{image.name} is no package", "`layerfs image export` writes images")
    titles = [layer.annotations.get(TITLE, "") for layer in manifest.layers]
    for title in titles:
        if title in ("", ".", "..") or "/" in title or "\0" in title or titles.count(title) > 1:
            raise Corrupt(f"{image.name} has a file of the name {title!r}")
    os.makedirs(directory, exist_ok=True)
    written = []
    for layer, title in zip(manifest.layers, titles, strict=True):
        path = os.path.join(directory, os.fsencode(title))
        source = images.store.content.open(layer.digest)
        try:
            with replacing(path) as fd:
                copy_data(source, fd, layer.size)
                os.fchmod(fd, _MODE)
        finally:
            os.close(source)
        written.append(path)
    return written
