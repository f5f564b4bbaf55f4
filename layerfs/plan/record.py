"""A plan as `pack` reads it, and `pack.json`: the record of packed layers, which the next pack reads."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from layerfs.errors import InvalidArgument, NotFound
from layerfs.plan.document import placed
from layerfs.plan.graph import Graph
from layerfs.plan.jsonfile import read_json
from layerfs.plan.sources import KINDS, SourceSpec
from layerfs.pysquashfs.target import replacing
from layerfs.sys.terminal import json_text

FORMAT: Final = "layerfs pack 1"
NAME: Final = b"pack.json"
_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class PlanRead:
    """A plan to be packed: the source of its files, its layers, bottom first, and the version of each module."""

    shown: str
    words: SourceSpec | None
    layers: tuple[tuple[int, tuple[str, ...]], ...]
    versions: Mapping[str, str]
    whys: tuple[str, ...]


def read_plan(path: bytes) -> PlanRead:
    """Read a plan, which is a stranger's. Raises InvalidArgument, OSError."""
    shown = os.fsdecode(path)
    document = read_json(path)
    placed(shown, document)
    layers = document["layers"]
    if not layers:
        raise InvalidArgument(f"{shown} has no layers", "plan anew")
    return PlanRead(
        shown,
        _words(shown, document.get("source")),
        tuple((layer["id"], tuple(module["name"] for module in layer["modules"])) for layer in layers),
        {module["name"]: str(module.get("version", "")) for layer in layers for module in layer["modules"]},
        tuple(str(layer.get("why", "")) for layer in layers),
    )


def _words(shown: str, found: Any) -> SourceSpec | None:
    if found is None:
        return None
    good = isinstance(found, dict) and isinstance(found.get("what"), str) and found.get("kind") in (*KINDS, "json")
    more, sizes = (found.get("more", []), found.get("sizes")) if good else ([], None)
    if not good or not isinstance(more, list) or not all(isinstance(word, str) for word in more):
        raise InvalidArgument(f"{shown} has a source that is none", "plan anew")
    if sizes is not None and not isinstance(sizes, str):
        raise InvalidArgument(f"{shown} has a source that is none", "plan anew")
    return SourceSpec(found["kind"], found["what"], tuple(more), sizes)


def compare(plan: PlanRead, graph: Graph) -> None:
    """Raise InvalidArgument, by name, if a graph has other modules, or other versions of them, than a plan."""
    there = {module.name: module.version for module in graph.modules}
    hint = f"plan again: layerfs plan ... --previous {plan.shown}"
    gone = min(plan.versions.keys() - there.keys(), default="")
    if gone:
        raise InvalidArgument(f"{plan.shown} has the module {gone}, which {graph.name} does not have (any more)", hint)
    new = min(there.keys() - plan.versions.keys(), default="")
    if new:
        raise InvalidArgument(f"{graph.name} has the module {new}, which {plan.shown} does not know", hint)
    other = min((name for name in there if there[name] != plan.versions[name]), default="")
    if other:
        before, now = plan.versions[other] or "none", there[other] or "none"
        raise InvalidArgument(f"{other} has the version {now} in {graph.name}, but {before} in {plan.shown}", hint)


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """One packed layer: the digest of its contents, its file's name, SHA-256 and length [bytes]; diff_id: of a tar."""

    id: int
    contents: str
    file: str
    sha256: str
    bytes: int
    diff_id: str = ""


@dataclass(frozen=True, slots=True)
class PackRecord:
    """What was packed, layers bottom first."""

    format: str  # xar, squashfs, oci
    name: str
    layers: tuple[LayerRecord, ...]


def write_record(directory: bytes, record: PackRecord) -> None:
    """Write a record into the directory of what was packed."""
    text = json_text({"pack": FORMAT, **asdict(record)})
    with replacing(os.path.join(directory, NAME)) as fd, open(fd, "w", encoding="utf-8", closefd=False) as file:
        file.write(text + "\n")
        os.fchmod(fd, 0o644)


def read_record(directory: bytes) -> PackRecord:
    """Read the record of an earlier pack. Raises NotFound, InvalidArgument for a directory that has no sound one."""
    path = os.path.join(directory, NAME)
    try:
        document = read_json(path)
    except FileNotFoundError:
        raise NotFound(
            f"{os.fsdecode(directory)} has no {os.fsdecode(NAME)}", "name a directory of layerfs pack"
        ) from None
    layers = document.get("layers")
    named = isinstance(document.get("format"), str) and isinstance(document.get("name"), str)
    if document.get("pack") != FORMAT or not named or not isinstance(layers, list):
        raise InvalidArgument(f"{os.fsdecode(path)} is no record of a pack", "name what layerfs pack -o made")
    return PackRecord(document["format"], document["name"], tuple(_layer(path, layer) for layer in layers))


def _layer(path: bytes, found: Any) -> LayerRecord:
    kinds = {"id": int, "contents": str, "file": str, "sha256": str, "bytes": int, "diff_id": str}
    good = isinstance(found, dict) and found.keys() == kinds.keys()
    if not good or any(type(found[key]) is not kind for key, kind in kinds.items()):
        raise InvalidArgument(f"{os.fsdecode(path)} has a layer that is none", "name what layerfs pack -o made")
    record = LayerRecord(**found)
    parts = record.file.split("/")
    if not _is_digest(record.contents) or not _is_digest(record.sha256) or {"", ".", ".."} & set(parts):
        raise InvalidArgument(f"{os.fsdecode(path)} has a layer that is none: {record.file}", "pack anew")
    return record


def _is_digest(text: str) -> bool:
    return len(text) == 64 and _HEX.issuperset(text)


def source_of(words: SourceSpec) -> dict[str, Any]:
    """Return a source as a plan holds it."""
    return {key: value for key, value in asdict(words).items() if value not in (None, ())}
