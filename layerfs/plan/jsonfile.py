"""Graphs, and histories of builds, read from JSON. The files are strangers': types, numbers and sizes are checked."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from layerfs.errors import InvalidArgument
from layerfs.plan.graph import PROBABILITY, Graph, Module, make_graph
from layerfs.plan.tree import Claims
from layerfs.sys.files import NotRegular, open_regular

TEXT: Final = 512 << 20  # bytes of a file that is read whole
VALUES: Final = 20_000_000  # of a JSON file, at most: one takes up to 80 bytes of memory, and two in the file
_NUMBER: Final = (int, float)


def read_text(path: bytes, most: int = TEXT) -> str:
    """Return a regular file's text. Raises InvalidArgument for what is none, or larger than `most` bytes; OSError."""
    shown = os.fsdecode(path)
    try:
        fd = open_regular(path)
    except NotRegular:
        raise InvalidArgument(f"{shown} is no regular file", "name a file") from None
    with open(fd, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise InvalidArgument(f"{shown} has more than {most} bytes", "plan a part of it")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidArgument(f"{shown} is no text in UTF-8", "see docs/plan.md for what is read") from None


def read_json(path: bytes) -> Mapping[str, Any]:
    """Return the object in a JSON file."""
    shown = os.fsdecode(path)
    text = read_text(path)
    if sum(map(text.count, ",[{")) > VALUES:
        raise InvalidArgument(f"{shown} has more than {VALUES} values", "plan a part of it")
    try:
        found = json.loads(text)
        # Half of a pair of surrogates is no text, nor a name: those of bytes that are none (U+DC80 to U+DCFF) are.
        json.dumps(found, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{shown} is no JSON: {error}", "see docs/plan.md for what is read") from None
    if not isinstance(found, dict):
        raise InvalidArgument(f"{shown} is no JSON object", "see docs/plan.md for what is read")
    return found


@dataclass(frozen=True, slots=True)
class WrittenGraph:
    """A graph as written in a file, with the root of its files and their owners if the file names them."""

    name: str
    modules: tuple[Module, ...]
    root: bytes | None
    claims: Claims


def read_graph(path: bytes) -> WrittenGraph:
    """Return the graph in a JSON file, as docs/plan.md describes it."""
    shown = os.fsdecode(path)
    document = read_json(path)
    listed = document.get("modules")
    if not isinstance(listed, list):
        raise InvalidArgument(f"{shown} has no list of modules", 'it is an object with the key "modules"')
    name, root = document.get("name", shown), document.get("root")
    if root is not None and (not isinstance(root, str) or not root or "\0" in root):
        raise InvalidArgument(f"{shown} has a root that is no path", "it is where the files of the modules are")
    return WrittenGraph(
        name if isinstance(name, str) else shown,
        tuple(_module(shown, entry) for entry in listed),
        None if root is None else os.path.join(os.path.dirname(os.path.abspath(path)), os.fsencode(root)),
        _claims(shown, listed, rooted=root is not None),
    )


def _claims(where: str, listed: Iterable[Mapping[str, Any]], *, rooted: bool) -> Claims:
    """Return which module claims each path; of several modules the first by name."""
    below: dict[bytes, str] = {}
    for entry in sorted(listed, key=lambda entry: str(entry["name"])):
        paths = entry.get("paths", [])
        name = entry["name"]
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise InvalidArgument(f"module {name} of {where} has paths that are no list of paths", "see docs/plan.md")
        if paths and not rooted:
            raise InvalidArgument(f"module {name} has paths, but {where} has no root", 'say where they are: "root"')
        for path in paths:
            parts = [part for part in path.split("/") if part not in ("", ".")]
            if ".." in parts or "\0" in path:
                raise InvalidArgument(f"module {name} of {where} has the path {path}", "it lies below the root")
            below.setdefault(os.fsencode("/".join(parts)), name)
    return Claims(below=below)


def _module(where: str, entry: Any) -> Module:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise InvalidArgument(f"a module of {where} is no object with a name", "see docs/plan.md for what is read")
    name = entry["name"]
    if "bytes" not in entry and "paths" not in entry:
        raise InvalidArgument(f"module {name} of {where} has no bytes", "say how large it is")
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        raise InvalidArgument(f"module {name} of {where} has an unknown key: {unknown[0]}", "see docs/plan.md")
    depends = entry.get("depends", [])
    if not isinstance(depends, list) or not all(isinstance(other, str) for other in depends):
        raise InvalidArgument(f"module {name} of {where} has depends that are no list of names", "see docs/plan.md")
    return Module(
        name=name,
        size=_typed(where, entry, "bytes", int, 0),
        version=_typed(where, entry, "version", str, "") or _typed(where, entry, "digest", str, ""),
        files=_typed(where, entry, "files", int, 0),
        depends=tuple(depends),
        chance=_typed(where, entry, "probability", _NUMBER, PROBABILITY),
        source=_typed(where, entry, "source", str, ""),
        rebuilds=_typed(where, entry, "rebuilds", bool, True),
    )


_KEYS: Final = frozenset(
    ("name", "version", "digest", "bytes", "files", "depends", "probability", "source", "rebuilds", "paths")
)


def _typed(where: str, entry: Mapping[str, Any], key: str, kind: Any, default: Any) -> Any:
    value = entry.get(key, default)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InvalidArgument(f"module {entry['name']} of {where} has {key} of a wrong type", "see docs/plan.md")
    return value


def read_history(path: bytes) -> list[list[str]]:
    """Return which modules each build of a history changed."""
    shown = os.fsdecode(path)
    builds = read_json(path).get("builds")
    good = isinstance(builds, list) and builds and all(isinstance(build, list) for build in builds)
    if not good or not all(isinstance(name, str) for build in builds or () for name in build):
        raise InvalidArgument(
            f"{shown} is no history", 'it is an object whose key "builds" is a list with a list of names for each build'
        )
    return list(builds or ())


def with_history(graph: Graph, builds: Iterable[Iterable[str]]) -> Graph:
    """Return a graph with chances estimated from a history of builds; names that are not in the graph do not count.

    The chance is (changes + 1/2) / (builds + 1), the estimate by Jeffreys' prior: never 0 and never 1.
    """
    changes: Counter[str] = Counter()
    count = 0
    for build in builds:
        count += 1
        changes.update(set(build))
    modules = [replace(module, chance=(changes[module.name] + 0.5) / (count + 1)) for module in graph.modules]
    return make_graph(graph.name, modules)
