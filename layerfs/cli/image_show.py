"""`layerfs image ls`, `inspect`, `history` and `verify`."""

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from layerfs.cli.screen import bar, size
from layerfs.cli.store_options import add_max_size, add_store_options, limits_of, opened
from layerfs.sys.terminal import one_line

if TYPE_CHECKING:
    from layerfs.oci.images import Image, Images

_WORDS = {
    "ls": "list images",
    "inspect": "print what is known of an image, as JSON",
    "history": "print how an image was made",
    "verify": "read all of an image again, and check every digest",
}


def add_parser(parts: "argparse._SubParsersAction[argparse.ArgumentParser]", part: str) -> None:
    """Add one of the verbs."""
    parser = parts.add_parser(part, help=_WORDS[part], description=_WORDS[part].capitalize() + ".")
    if part != "ls":
        parser.add_argument("image", metavar="IMAGE")
    if part != "inspect":
        parser.add_argument("--json", action="store_true", help="print a list of objects")
    if part == "verify":
        add_max_size(parser)
    add_store_options(parser, platform=part in ("inspect", "history"))


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    from layerfs.oci.images import Images

    shown: Callable[[argparse.Namespace, Images], int] = globals()[f"_{arguments.part}"]
    with opened(arguments) as store:
        return shown(arguments, Images(store))


def _ls(arguments: argparse.Namespace, images: "Images") -> int:
    rows = [_summary(images, image) for image in images.all()]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print("no images")
    else:
        width = max(len(row["name"]) for row in rows)
        for row in rows:
            print(one_line(f"{row['name']:{width}}  {row['digest'][7:19]}  {size(row['size']):>10}  {row['platform']}"))
    return 0


def _summary(images: "Images", image: "Image") -> dict[str, Any]:
    chosen = images.load(image)
    total = chosen.descriptor.size + chosen.manifest.config.size + sum(layer.size for layer in chosen.manifest.layers)
    platform = "artifact" if chosen.config is None else str(chosen.config.platform) or "any"
    created = datetime.fromtimestamp(image.created / 1e9, UTC).isoformat(timespec="seconds")
    return {"name": image.name, "digest": image.top.digest, "size": total, "platform": platform, "imported": created}


def _platform(arguments: argparse.Namespace) -> Any:
    from layerfs.oci.platforms import parse_platform

    return parse_platform(arguments.platform) if arguments.platform else None


def _inspect(arguments: argparse.Namespace, images: "Images") -> int:
    image = images.get(arguments.image)
    chosen = images.load(image, _platform(arguments))
    holds = images.holds(image)
    shown = _summary(images, image) | {
        "mediaType": image.top.media_type,
        "manifestDigest": chosen.descriptor.digest,
        "manifest": chosen.manifest.raw,
        "config": chosen.config.raw if chosen.config else None,
        "snapshots": [hold for hold in holds if hold.startswith("snapshot:")],
    }
    print(json.dumps(shown, indent=2))
    return 0


def _history(arguments: argparse.Namespace, images: "Images") -> int:
    chosen = images.load(images.get(arguments.image), _platform(arguments))
    raw = (chosen.config.raw.get("history") if chosen.config else None) or []
    layers = iter(chosen.manifest.layers)
    rows: list[dict[str, Any]] = []
    for step in [each for each in raw if isinstance(each, dict)]:
        layer = None if step.get("empty_layer") else next(layers, None)
        rows.append(
            {
                "created": str(step.get("created", "")),
                "created_by": str(step.get("created_by", "")),
                "comment": str(step.get("comment", "")),
                "size": layer.size if layer else 0,
                "layer": layer.digest if layer else None,
            }
        )
    rows += [
        {"created": "", "created_by": "", "comment": "", "size": layer.size, "layer": layer.digest} for layer in layers
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        words = [row["created"][:19], size(row["size"]) if row["layer"] else "-", row["created_by"] or row["comment"]]
        print(one_line("  ".join(word for word in words if word)))
    return 0


def _verify(arguments: argparse.Namespace, images: "Images") -> int:
    from layerfs.oci.verify import verify

    image = images.get(arguments.image)
    with bar(f"verifying {image.name}") as progress:
        found = verify(images, image, progress, limits_of(arguments))
    if arguments.json:
        print(json.dumps([{"blob": digest, "wrong": wrong} for digest, wrong in found], indent=2))
    else:
        for digest, wrong in found:
            print(one_line(f"{digest}: {wrong}"))
        if not found:
            print(one_line(f"{image.name}: all digests are right"))
    return int(bool(found))
