"""What is mounted: trees of layers, built once into the cache and never changed afterwards."""

from __future__ import annotations

from pathlib import Path

from benchmarks.model import IMAGES, BenchError, BuiltTree
from benchmarks.trees import database, debian, images, node, real, synthetic, upgrade, work

ROOTS = ("real", "repo", "csrc", "debian", "upgrade", "npm", "database")
"""Trees that belong to root and exist for no other owner."""


def build(name: str, layers: int, cache: Path, owner: int = 0) -> BuiltTree:
    """Return the tree called `name` over `layers` layers, made now if the cache lacks it.

    `own.sqfs` is the tree `own` with each layer packed into a squashfs image.
    """
    if name.endswith(IMAGES):
        return images.of_layers(build(name.removesuffix(IMAGES), layers, cache, owner), cache)
    if name == "real":
        return real.build(layers, cache)
    if name == "debian":
        return debian.build(layers, cache)
    if name == "upgrade":
        return upgrade.build(layers, cache)
    if name == "npm":
        return node.build(layers, cache)
    if name == "database":
        return database.build(layers, cache)
    if name in ("repo", "csrc"):
        return work.build(name, layers, cache)
    if name not in synthetic.SHAPES:
        raise BenchError(f"there is no tree called {name}")
    return synthetic.build(name, layers, cache, owner)
