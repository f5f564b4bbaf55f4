"""Images made by hand: layouts, docker-archives, and what is wrong with them."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

from layerfs.oci.platforms import host_platform
from tests.oci.tars import END, directory, file

LAYERS = [
    directory(b"bin")
    + file(b"bin/tool", b"#!/bin/sh\n", mode=0o755)
    + file(b"etc/passwd", b"root:x:0:0::/root:/bin/sh\n")
    + END,
    file(b"bin/.wh.tool") + file(b"bin/other", b"o") + END,
]


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Made:
    """An image in memory: blobs by digest, and its parts as documents that a test may spoil before `finish`."""

    def __init__(self, layers: list[bytes] | None = None, packed: list[bytes] | None = None) -> None:
        self.layers = LAYERS if layers is None else layers
        self.packed = self.layers if packed is None else packed
        here = host_platform()
        self.config: dict[str, Any] = {
            "architecture": here.architecture,
            "os": here.os,
            "config": {"Cmd": ["/bin/other"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in self.layers]},
        }
        self.manifest: dict[str, Any] = {"schemaVersion": 2, "mediaType": MANIFEST}
        self.blobs: dict[str, bytes] = {}
        for layer in self.packed:
            self.add(layer)

    def add(self, data: bytes) -> str:
        self.blobs[digest(data)] = data
        return digest(data)

    def descriptor(self, data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": self.add(data), "size": len(data)} | more

    def finish(self, **more: Any) -> dict[str, Any]:
        """Make the manifest and return its descriptor."""
        layers = [self.descriptor(layer, LAYER) for layer in self.packed]
        config = self.descriptor(json.dumps(self.config).encode(), CONFIG)
        whole = {"config": config, "layers": layers} | self.manifest
        return self.descriptor(json.dumps(whole).encode(), MANIFEST, **more)

    def layout(self, place: Path, *tops: dict[str, Any]) -> Path:
        """Write an OCI layout whose index has these entries."""
        (place / "blobs/sha256").mkdir(parents=True)
        (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        entries = tops or (self.finish(annotations={"org.opencontainers.image.ref.name": "made:1"}),)
        (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": list(entries)}))
        for name, data in self.blobs.items():
            (place / "blobs" / name.replace(":", "/")).write_bytes(data)
        return place

    def docker(self, path: Path, order: int = 1, mode: str = "w", prefix: str = "") -> Path:
        """Write a docker-archive; `order` -1 turns the order of members round."""
        config = json.dumps(self.config).encode()
        members = {f"{number}/layer.tar": data for number, data in enumerate(self.packed)}
        listed = {"Config": "config.json", "RepoTags": ["made:1"], "Layers": list(members)}
        members |= {"config.json": config, "manifest.json": json.dumps([listed]).encode()}
        write_tar(path, {prefix + name: data for name, data in list(members.items())[::order]}, mode)
        return path


MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def write_tar(path: Path, members: dict[str, bytes | str], mode: str = "w") -> None:
    """Write files, and symlinks (str)."""
    with tarfile.open(path, mode) as out:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                out.addfile(info)
            else:
                info.size = len(data)
                out.addfile(info, io.BytesIO(data))


def tarred(directory: Path, path: Path) -> Path:
    """Make an OCI archive of a layout."""
    with tarfile.open(path, "w") as out:
        for place, _, names in os.walk(directory):
            for name in names:
                full = Path(place, name)
                out.add(full, str(full.relative_to(directory)))
    return path
