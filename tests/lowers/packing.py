"""Images with the smallest blocks, as lowers."""

import os
import subprocess
from pathlib import Path

from layerfs.lowers.kinds import open_tree
from layerfs.lowers.squash import SquashLower
from tests.waiting import PATIENCE

BLOCK = 4096  # bytes; -b of the images here, the smallest there is


def pack(tree: Path, *options: str) -> bytes:
    """The image of a directory, beside it."""
    image = tree.with_suffix(".sqfs")
    words = ["-noappend", "-quiet", "-no-progress", "-b", str(BLOCK), *options]
    subprocess.run(["mksquashfs", tree, image, *words], check=True, capture_output=True, timeout=PATIENCE)
    return os.fsencode(image)


def lower_of(image: bytes) -> SquashLower:
    """An image as the first lower."""
    lower = open_tree(image, 1)
    assert isinstance(lower, SquashLower)
    return lower
