"""The distributions of a Python environment, from what installers write down; nothing in it is imported or run.

Read are METADATA and RECORD of each `*.dist-info` (packaging.python.org, "recording installed projects"). A
distribution is not rebuilt because one that it depends on changed. What no RECORD names belongs to the interpreter.
"""

import csv
import os
import re
from collections.abc import Iterator, Mapping
from typing import Final

from layerfs.errors import NotFound
from layerfs.oci.paths import clamp
from layerfs.oci.view import View
from layerfs.plan.graph import Module
from layerfs.plan.markers import environment, holds
from layerfs.plan.tree import Claims, PathResolver, content

INTERPRETER: Final = "(interpreter)"  # the module that has what is no distribution's
_LIBRARY: Final = re.compile(rb"python(\d+\.\d+)t?")
_MOST: Final = 64 << 20  # bytes of one file
_REQUIREMENT: Final = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)([^;]*)(?:;(.*))?", re.DOTALL)

_Found = dict[str, tuple[bytes, bytes, str]]  # by name: site directory, name of the .dist-info, version of Python


def read_python(view: View, shown: str) -> tuple[list[Module], Claims]:
    """Return the distributions below a prefix, and their files. Raises NotFound where there are none."""
    found: _Found = {}
    metadata: dict[str, Mapping[str, list[str]]] = {}
    for site, version in _sites(view):
        for name in sorted(view.names(site)):
            if name.endswith(b".dist-info"):
                fields = _fields(_text(view, site + b"/" + name + b"/METADATA"))
                label = normal((fields.get("Name") or [os.fsdecode(name).partition("-")[0]])[0])
                found.setdefault(label, (site, name, version))
                metadata.setdefault(label, fields)
    if not found:
        raise NotFound(f"{shown} has no Python distributions", "name the prefix of an environment")
    modules = [_module(label, metadata[label], found) for label in sorted(found)]
    files: dict[bytes, str] = {}
    below: dict[bytes, str] = {b"": INTERPRETER}
    paths = PathResolver(view)
    for label, (site, name, _) in sorted(found.items()):
        below[paths.real(site + b"/" + name)] = label
        for path in _recorded(view, site, name):
            files.setdefault(paths.real(path), label)
    return [*modules, Module(INTERPRETER, 0, rebuilds=False)], Claims(files, below)


def normal(name: str) -> str:
    """Return the normalized form of a distribution's name, by which names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _sites(view: View) -> Iterator[tuple[bytes, str]]:
    for library in (b"lib", b"lib64", b"local/lib"):
        for name in sorted(view.names(library)):
            if match := _LIBRARY.fullmatch(name):
                for kind in (b"site-packages", b"dist-packages"):
                    yield b"/".join((library, name, kind)), match[1].decode()
    yield b"lib/python3/dist-packages", "3"


def _text(view: View, path: bytes) -> str:
    return (content(view, path, _MOST) or b"").decode(errors="surrogateescape")


def _fields(text: str) -> Mapping[str, list[str]]:
    """Return the fields of the head of METADATA, each of which may be there several times."""
    found: dict[str, list[str]] = {}
    for line in text.partition("\n\n")[0].split("\n"):
        name, colon, value = line.partition(":")
        if colon and not line[0].isspace():
            found.setdefault(name, []).append(value.strip())
    return found


def _module(label: str, fields: Mapping[str, list[str]], found: _Found) -> Module:
    values = environment(found[label][2])
    wanted = (_REQUIREMENT.match(text) for text in fields.get("Requires-Dist", []))
    names = (normal(match[1]) for match in wanted if match and (not match[3] or holds(match[3], values)))
    depends = tuple(dict.fromkeys(name for name in names if name in found and name != label))
    return Module(label, 0, (fields.get("Version") or [""])[0], depends=depends, rebuilds=False)


def _recorded(view: View, site: bytes, name: bytes) -> Iterator[bytes]:
    """Yield the paths that RECORD names, from the prefix; those that lead out of it are none of its files."""
    for row in csv.reader(_text(view, site + b"/" + name + b"/RECORD").split("\n")):
        path = os.fsencode(row[0]) if row else b""
        depth = len(site.split(b"/"))
        if path and b"\0" not in path and not path.startswith((b"/", b"../" * (depth + 1))):
            yield clamp(site + b"/" + path)
