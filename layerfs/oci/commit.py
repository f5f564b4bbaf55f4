"""A new image from an active snapshot: its difference as one more layer of the image that it stands on."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from layerfs.errors import InvalidArgument, NotFound
from layerfs.oci import documents
from layerfs.oci.digest import Digest, digest_of
from layerfs.oci.documents import Descriptor, Json, dump_json
from layerfs.oci.images import Image, Images
from layerfs.oci.pack import MEDIA_TYPES
from layerfs.oci.platforms import host_platform
from layerfs.oci.produce import Difference, Produced, produce_layer
from layerfs.oci.reference import parse_reference
from layerfs.oci.unpack import FORMS, chain_ids
from layerfs.oci.write import EXACT, Style
from layerfs.snapshots import driver
from layerfs.snapshots.snapshotter import Snapshotter

KEYS: Final = ("Cmd", "Entrypoint", "Env", "WorkingDir", "User", "Labels", "ExposedPorts", "Volumes", "StopSignal")


@dataclass(frozen=True, slots=True)
class NewImage:
    """What the new image is to be. config: keys of the image's config to set; None takes one away.

    created: RFC 3339; None is SOURCE_DATE_EPOCH or now.
    """

    compression: str = "gzip"
    config: Json = field(default_factory=dict)
    comment: str = ""
    author: str = ""
    created: str | None = None
    style: Style = EXACT


@dataclass(frozen=True, slots=True)
class Committed:
    """The new image, its new layer, and what could not be said in that."""

    image: Image
    layer: Produced


def difference_of(snapshotter: Snapshotter, key: str) -> Difference:
    """Return what a snapshot changes of its parents."""
    own = snapshotter.layer(key)
    parent = snapshotter.stat(key).parent
    if own.form is driver.Form.WHOLE:
        before = (snapshotter.layer(parent).path,) if parent else ()
        return Difference(own.path, FORMS[own.form], before, snapshot=True)
    below = snapshotter.stack(parent).lowers if parent else ()
    return Difference(own.path, FORMS[own.form], below)


def commit(
    images: Images,
    snapshotter: Snapshotter,
    key: str,
    name: str,
    wanted: NewImage,
    check: Callable[[], None] = lambda: None,
) -> Committed:
    """Make an image of a snapshot that is not being written to. Raises NotFound, InvalidArgument, OSError."""
    name = str(parse_reference(name))
    parent = snapshotter.stat(key).parent
    base = _base(images, parent) if parent else None
    content = images.store.content
    with ExitStack() as held:
        with content.ingest() as taking:
            layer = produce_layer(
                difference_of(snapshotter, key), taking.write, wanted.compression, style=wanted.style, check=check
            )
            held.callback(os.close, taking.commit().held)
        config = _config(images, base, layer, wanted)
        kind = MEDIA_TYPES[wanted.compression]
        manifest = _manifest(
            images, base, config, {"mediaType": kind, "digest": layer.packed, "size": layer.packed_size}
        )
        for document in (config, manifest):
            held.callback(os.close, images.keep(document))
        top = Descriptor(documents.MANIFEST, digest_of(manifest), len(manifest))
        holds: list[str] = [top.digest, digest_of(config), layer.packed]
        if base is not None:
            old = images.load(base).manifest
            holds += [each.digest for each in old.layers]
            holds += [hold for hold in images.holds(base) if hold.startswith("snapshot:")]
        return Committed(images.put(name, top, top, dict.fromkeys(holds)), layer)


def _base(images: Images, parent: str) -> Image:
    """Return the image whose topmost snapshot a parent is."""
    for image in images.all():
        try:
            config = images.load(image).config
        except NotFound:
            continue
        if config is not None and config.diff_ids and chain_ids(config.diff_ids)[-1] == parent:
            return image
    raise NotFound(
        f"snapshot {parent} is of no image in this store", "import the image, or commit from one without parent"
    )


def _config(images: Images, base: Image | None, layer: Produced, wanted: NewImage) -> bytes:
    here = host_platform()
    raw: dict[str, Any] = {
        "architecture": here.architecture,
        "os": here.os,
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    if base is not None:
        raw = dict(images.load(base).image_config.raw)
    created = wanted.created or _now()
    run = dict(raw.get("config") or {})
    for key, value in wanted.config.items():
        if key not in KEYS:
            raise InvalidArgument(f"an image's config has no {key!r} to change", f"such as {', '.join(KEYS)}")
        run.pop(key, None)
        if value is not None:
            run[key] = value
    diff_ids: list[Digest] = [*(raw.get("rootfs") or {}).get("diff_ids", []), layer.diff_id]
    step = {"created": created, "created_by": "layerfs image commit", "comment": wanted.comment or None}
    raw |= {
        "created": created,
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [*(raw.get("history") or []), {key: value for key, value in step.items() if value}],
    }
    if wanted.author:
        raw["author"] = wanted.author
    return dump_json(raw)


def _manifest(images: Images, base: Image | None, config: bytes, layer: Json) -> bytes:
    layers = [dict(each.raw) for each in images.load(base).manifest.layers] if base is not None else []
    described = {"mediaType": documents.CONFIG, "digest": digest_of(config), "size": len(config)}
    whole = {"schemaVersion": 2, "mediaType": documents.MANIFEST, "config": described, "layers": [*layers, dict(layer)]}
    return dump_json(whole)


def _now() -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch:
        if not epoch.isascii() or not epoch.isdigit() or len(epoch) > 11:
            raise InvalidArgument(f"SOURCE_DATE_EPOCH is {epoch!r}, not seconds since 1970")
        return datetime.fromtimestamp(int(epoch), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
