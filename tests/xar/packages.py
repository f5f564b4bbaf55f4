"""XARs to resolve: a header of ours before what looks like an image, quickly written by the hundred."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from layerfs.xar.graph import Resolution, resolve
from layerfs.xar.header import MAGIC
from layerfs.xar.header_writer import make_header
from layerfs.xar.search import Search

DIAMOND = {"a": ["b", "c"], "b": ["d"], "c": ["e"], "d": ["f"], "e": ["f"], "f": []}


def fake(place: Path, name: str, depends: Iterable[str] = (), version: int = 1, content: str = "") -> Path:
    """Write a XAR whose image is none; its content is its name's unless it is given."""
    path = place / f"{name}.xar"
    header = make_header(uuid="8f583eae", version=str(version), dependencies=[f"{d}.xar" for d in depends])
    path.write_bytes(header + MAGIC + (content or name).encode())
    return path


def fakes(place: Path, graph: Mapping[str, Iterable[str]]) -> Path:
    """Write a graph of fakes into a directory, which is made."""
    place.mkdir(parents=True, exist_ok=True)
    for name, depends in graph.items():
        fake(place, name, depends)
    return place


def order(resolution: Resolution) -> str:
    """The stack as a word: the names without `.xar`, top first."""
    return " ".join(os.fsdecode(member.name).removesuffix(".xar") for member in resolution.members)


def resolved(*lowers: Path, path: Iterable[Path] = ()) -> Resolution:
    """Resolve without caches."""
    return resolve([os.fsencode(lower) for lower in lowers], Search([os.fsencode(place) for place in path]))


def real(place: Path, name: str, files: Mapping[str, str], depends: Iterable[str] = (), version: int = 1) -> Path:
    """Write a XAR that can be mounted: files by their paths, directories as they are needed."""
    tree = place / f"{name}.tree"
    for file, content in {"": "", **files}.items():
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        if file:
            (tree / file).write_text(content)
    tree.mkdir(exist_ok=True)
    image = place / f"{name}.image"
    options = ["-noappend", "-quiet", "-no-progress", "-all-root", "-root-mode", "755"]
    subprocess.run(["mksquashfs", tree, image, *options], check=True, stdout=subprocess.DEVNULL)
    path = fake(place, name, depends, version)
    path.write_bytes(path.read_bytes()[:4096] + image.read_bytes())
    image.unlink()
    shutil.rmtree(tree)
    return path


def reals(place: Path, graph: Mapping[str, Iterable[str]]) -> Path:
    """Write a graph of XARs that can be mounted: each has a file of its own name, `which`, and `same` in all."""
    place.mkdir(parents=True, exist_ok=True)
    for name, depends in graph.items():
        real(place, name, {f"lib/{name}": name, "which": name, "same": "same"}, depends)
    return place
