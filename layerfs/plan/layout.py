"""The layers of a plan as an OCI image, in a directory that is an OCI layout."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from layerfs.errors import Unsupported
from layerfs.oci.digest import Digest, digest_of
from layerfs.oci.documents import CONFIG, IMAGE_NAME, INDEX, MANIFEST, REF_NAME, Json, dump_json
from layerfs.oci.export import LAYOUT
from layerfs.oci.pack import MEDIA_TYPES, Packer
from layerfs.oci.paths import WH
from layerfs.oci.platforms import host_platform
from layerfs.oci.write import Item, write_tar
from layerfs.plan.contents import LayerContents
from layerfs.pysquashfs.target import replacing

COMPRESSION: Final = "gzip"
BLOBS: Final = b"blobs/sha256"
RECIPE: Final = b"oci gzip"
KEPT: Final = ("author", "architecture", "os", "variant", "os.version", "os.features", "config")  # of an image's config
_CREATED: Final = "1970-01-01T00:00:00Z"  # of no build: the same layers are the same image


@dataclass(frozen=True, slots=True)
class LayerBlob:
    """A layer in a layout: its own digest and length [bytes], and the digest of its tar."""

    digest: Digest
    size: int
    diff_id: Digest


def begin(directory: bytes) -> None:
    """Make an empty directory ready to take blobs."""
    os.makedirs(os.path.join(directory, BLOBS))


def place(directory: bytes, digest: Digest) -> bytes:
    """Return where a blob is."""
    return os.path.join(directory, BLOBS, digest[7:].encode())


def write_blob(directory: bytes, contents: LayerContents) -> LayerBlob:
    """Write a layer's tar, compressed, under its digest. Raises NotReady, Corrupt, OSError."""
    draft = os.path.join(directory, b".layer")
    with replacing(draft) as fd:
        with open(fd, "wb", closefd=False) as file:
            packer = Packer(file.write, COMPRESSION)
            write_tar(map(_sayable, contents.items()), packer.write)
            packer.finish()
        os.fchmod(fd, 0o644)
    os.rename(draft, place(directory, packer.packed.digest))
    return LayerBlob(packer.packed.digest, packer.packed.size, packer.unpacked.digest)


def _sayable(item: Item) -> Item:
    """Return an entry as a layer holds it. Raises Unsupported for a name that would delete something there."""
    if item.member.path.rpartition(b"/")[2].startswith(WH):
        shown = item.member.path.decode(errors="replace")
        raise Unsupported(f"/{shown} has a name that means a deletion in an image", "pack it with --format xar")
    return item


def finish(directory: bytes, blobs: Sequence[LayerBlob], whys: Sequence[str], name: str, was: Json) -> Digest:
    """Write config, manifest and, last, the index; return the digest of the manifest.

    was: the config of the image that is packed again, if any; its platform and how it is run are kept.
    """
    here = host_platform()
    history = [{"created": _CREATED, "created_by": f"layerfs pack: {why}"} for why in whys]
    config: dict[str, Any] = {
        "created": _CREATED,
        "architecture": here.architecture,
        "os": here.os,
        "config": {},
        **{key: was[key] for key in KEPT if key in was},
        "rootfs": {"type": "layers", "diff_ids": [blob.diff_id for blob in blobs]},
        "history": history,
    }
    kind = MEDIA_TYPES[COMPRESSION]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _document(directory, CONFIG, dump_json(config)),
        "layers": [{"mediaType": kind, "digest": blob.digest, "size": blob.size} for blob in blobs],
    }
    entry = _document(directory, MANIFEST, dump_json(manifest))
    entry["annotations"] = {IMAGE_NAME: name, REF_NAME: name}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    _write(os.path.join(directory, b"oci-layout"), LAYOUT)
    _write(os.path.join(directory, b"index.json"), dump_json(index))
    return digest_of(dump_json(manifest))


def _document(directory: bytes, kind: str, data: bytes) -> dict[str, Any]:
    digest = digest_of(data)
    _write(place(directory, digest), data)
    return {"mediaType": kind, "digest": digest, "size": len(data)}


def _write(path: bytes, data: bytes) -> None:
    with replacing(path) as fd:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        os.fchmod(fd, 0o644)
