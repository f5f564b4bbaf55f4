"""Layers packed into squashfs images, made once and kept in the cache.

An image is found by a digest of all that determines it: the tree's recipe, the options, and mksquashfs's own version.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import replace
from functools import cache as once
from pathlib import Path

from benchmarks.model import IMAGES, BenchError, BuiltTree
from benchmarks.trees import synthetic

OPTIONS = ("-comp", "zstd", "-Xcompression-level", "3", "-b", "131072")
OURS = "-all-root"
"""Synthetic trees belong to uid 0 in the image, which a rootless mount shows as the user, as the flat tree does."""


def of_layers(layers: BuiltTree, cache: Path) -> BuiltTree:
    """Return the same layers as images; those that are missing are made."""
    lowers = tuple(image(layers, lower, cache) for lower in layers.lowers)
    return replace(layers, tree=layers.tree + IMAGES, lowers=lowers)


def image(layers: BuiltTree, lower: Path, cache: Path) -> Path:
    """Return the image of one layer, made now if the cache lacks it."""
    options = (*OPTIONS, OURS) if layers.tree in synthetic.SHAPES else OPTIONS
    recipe = repr((synthetic.recipe(layers.tree), len(layers.lowers), options, version()))
    mark = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    final = cache / "images" / f"{layers.tree}-{len(layers.lowers)}-{mark}" / f"{lower.name}{IMAGES}"
    if not final.exists():
        pack(lower, final, options)
    return final


def pack(lower: Path, final: Path, options: tuple[str, ...]) -> None:
    """Make an image; it gets its name when it is whole."""
    final.parent.mkdir(parents=True, exist_ok=True)
    fresh = final.with_suffix(f".{os.getpid()}")
    argv = ["mksquashfs", str(lower), str(fresh), *options, "-noappend", "-quiet", "-no-progress"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        fresh.unlink(missing_ok=True)
        raise BenchError(f"cannot pack {lower}: {done.stderr.strip()[-300:]}")
    fresh.rename(final)


@once
def version() -> str:
    """Return the first line that mksquashfs says about itself; the images of another version are others."""
    try:
        said = subprocess.run(["mksquashfs", "-version"], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise BenchError("images are made by mksquashfs (Debian package squashfs-tools)") from error
    return said.stdout.partition("\n")[0]
