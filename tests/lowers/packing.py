"""Images with the smallest blocks, as lowers, and unions of them."""

import os
import subprocess
from pathlib import Path

from layerfs.lowers.kinds import open_tree
from layerfs.lowers.squash import SquashLower
from layerfs.model import Stack
from layerfs.union.union import Union
from tests.union.box import Box
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


class Packed(Box):
    """A Box whose lowers are packed into images first."""

    options_of_images: tuple[str, ...] = ()

    def _open(self) -> Union:
        lowers = tuple(pack(Path(os.fsdecode(lower)), *self.options_of_images) for lower in self.stack.lowers)
        return Union.open(Stack(lowers, self.stack.upper, self.stack.work), self.options, open_tree=open_tree)
