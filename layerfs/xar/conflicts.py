"""Files that two packages of a stack both provide: the upper one is seen, whoever needs the lower one gets another.

Directories merge, and whiteouts are there to hide something, so neither is a conflict; a file over a directory is.
Cost: one walk through each image; only files of equal size are read, to tell equal ones, which harm nobody.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from layerfs.pysquashfs import Image, Inode
from layerfs.xar.package import opened

_WHITEOUT: Final = b".wh."  # the beginning of an OCI whiteout's name
_PIECE: Final = 1 << 20  # bytes compared at once; guessed

_Place = tuple[int, Inode]  # which image, and what it has


@dataclass(frozen=True, slots=True)
class Conflict:
    """A path, relative to the root, and who provides it, as indexes into what was compared, top first: [0] is seen.

    `equal` tells that all have the same type, mode and content.
    """

    path: bytes
    providers: tuple[int, ...]
    equal: bool


def find_conflicts(files: Sequence[bytes]) -> list[Conflict]:
    """Return what several images [paths, top first] provide, by path; different ones first. Raises Corrupt, OSError."""
    with ExitStack() as stack:
        images = [stack.enter_context(opened(path)).image for path in files]
        found = [
            Conflict(path, tuple(index for index, _ in places), _are_equal(images, places))
            for path, places in _provided(images).items()
            if not all(stat.S_ISDIR(inode.mode) for _, inode in places)
        ]
    return sorted(found, key=lambda conflict: (conflict.equal, conflict.path))


def _provided(images: Sequence[Image]) -> dict[bytes, list[_Place]]:
    """Return who provides each path that more than one provides, top first."""
    first: dict[bytes, _Place] = {}
    found: dict[bytes, list[_Place]] = {}
    for index, image in enumerate(images):
        for path, inode in image.walk():
            if _is_whiteout(path, inode):
                continue
            upper = first.setdefault(path, (index, inode))
            if upper[0] != index:
                found.setdefault(path, [upper]).append((index, inode))
    return found


def _is_whiteout(path: bytes, inode: Inode) -> bool:
    if stat.S_ISCHR(inode.mode) and inode.rdev == 0:  # kernel overlayfs's (overlayfs.rst)
        return True
    return _WHITEOUT in path and os.path.basename(path).startswith(_WHITEOUT)


def _are_equal(images: Sequence[Image], places: Sequence[_Place]) -> bool:
    (seen, first), *others = places
    return all(_is_equal(images[seen], first, images[index], inode) for index, inode in others)


def _is_equal(image: Image, one: Inode, another: Image, other: Inode) -> bool:
    if one.mode != other.mode or one.size != other.size or one.rdev != other.rdev:
        return False
    if stat.S_ISLNK(one.mode):
        return image.readlink(one.ref) == another.readlink(other.ref)
    if stat.S_ISREG(one.mode):
        pairs = zip(_pieces(image, one), _pieces(another, other), strict=True)
        return all(piece == counterpart for piece, counterpart in pairs)
    return True


def _pieces(image: Image, inode: Inode) -> Iterator[bytes]:
    for offset in range(0, inode.size, _PIECE):
        yield image.read(inode.ref, offset, _PIECE)
