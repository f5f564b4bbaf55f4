"""Files that two packages of a stack both provide: only the upper one is seen, also by users of the lower one.

Directories merge, and whiteouts are there to hide something, so neither is a conflict; a file over a directory is.

The images are walked together, through the directories that at least two of them have. Files of equal size are read to
tell equal ones, which harm nobody; holes are not read. Both are bounded in time and bytes, since whoever made the
packages chose how much there is to compare: what was found until then is returned, and that it is not all.
"""

import errno
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from layerfs.pysquashfs import Inode, Piece, SquashfsError, SquashfsImage
from layerfs.pysquashfs.trail import Trail
from layerfs.xar.package import opened

_WHITEOUT: Final = b".wh."  # the beginning of an OCI whiteout's name

_Place = tuple[int, Inode]  # which image, and what it has


@dataclass(frozen=True, slots=True)
class Conflict:
    """A path, relative to the root, and who provides it, as indexes into what was compared, top first: [0] is seen.

    Of a path that is very long only the end is there. `equal` tells that all have the same type, mode and content.
    """

    path: bytes
    providers: tuple[int, ...]
    equal: bool


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a search may take [s], and how many bytes of files it may read."""

    seconds: float
    size: int


MOUNTING: Final = Limit(2.0, 256 << 20)  # somebody waits for a mount
ASKED: Final = Limit(60.0, 16 << 30)  # somebody asks for conflicts


@dataclass(frozen=True, slots=True)
class Conflicts:
    """What was found, by path, different ones first; `ended` says at which limit the search ended, if it did."""

    found: tuple[Conflict, ...]
    ended: str = ""


class _Ended(Exception):
    """Raised when the limit is reached."""


class _Meter:
    """Counts down a limit."""

    def __init__(self, limit: Limit, now: Callable[[], float]) -> None:
        self._limit, self._now = limit, now
        self._deadline = now() + limit.seconds
        self._left = limit.size

    def take(self, size: int = 0) -> None:
        """Go on with the search, which reads `size` bytes now. Raises _Ended."""
        self._left -= size
        if self._left < 0:
            raise _Ended(f"after {self._limit.size >> 20} MiB of files")
        if self._now() > self._deadline:
            raise _Ended(f"after {self._limit.seconds:.0f} s")


def find_conflicts(files: Sequence[bytes], limit: Limit, now: Callable[[], float] = time.monotonic) -> Conflicts:
    """Return what several images [paths, top first] provide. Raises Corrupt, OSError."""
    found: list[Conflict] = []
    ended = ""
    with ExitStack() as stack:
        images = [stack.enter_context(opened(path)).image for path in files]
        meter = _Meter(limit, now)
        try:
            for trail, places in _provided(images, meter):
                equal = _are_equal(images, places, meter)
                found.append(Conflict(trail.shown, tuple(index for index, _ in places), equal))
        except _Ended as error:
            ended = str(error)
    return Conflicts(tuple(sorted(found, key=lambda conflict: (conflict.equal, conflict.path))), ended)


def _provided(images: Sequence[SquashfsImage], meter: _Meter) -> Iterator[tuple[Trail, list[_Place]]]:
    """Yield who provides each path that more than one provides, top first, unless all have a directory there."""
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[Trail, list[_Place]]] = [(Trail(None, b""), [(n, i.root) for n, i in enumerate(images)])]
    while waiting:
        above, directories = waiting.pop()
        names: dict[bytes, list[_Place]] = {}
        for index, directory in directories:
            meter.take()
            _see_once(images[index], (index, directory.ref), above, seen)
            for name, inode in images[index].scan(directory.ref):
                if not _is_whiteout(name, inode):
                    names.setdefault(name, []).append((index, inode))
        for name, places in names.items():
            inner = [place for place in places if stat.S_ISDIR(place[1].mode)]
            if len(inner) < len(places) > 1:
                yield Trail(above, name), places
            if len(inner) > 1:
                waiting.append((Trail(above, name), inner))


def _see_once(image: SquashfsImage, directory: tuple[int, int], trail: Trail, seen: set[tuple[int, int]]) -> None:
    if directory in seen:
        what = trail.shown.decode("utf-8", "backslashreplace")
        raise SquashfsError(
            errno.EIO, "a directory appears twice", filename=image.name, what=what, code="SQFS_ERROR_LINK_LOOP"
        )
    seen.add(directory)


def _is_whiteout(name: bytes, inode: Inode) -> bool:
    if stat.S_ISCHR(inode.mode) and inode.rdev == 0:  # kernel overlayfs's (overlayfs.rst)
        return True
    return name.startswith(_WHITEOUT)


def _are_equal(images: Sequence[SquashfsImage], places: Sequence[_Place], meter: _Meter) -> bool:
    (seen, first), *others = places
    return all(_is_equal(images[seen], first, images[index], inode, meter) for index, inode in others)


def _is_equal(image: SquashfsImage, one: Inode, another: SquashfsImage, other: Inode, meter: _Meter) -> bool:
    if not (one.number and other.number):  # it cannot be read
        return False
    if one.mode != other.mode or one.size != other.size or one.rdev != other.rdev:
        return False
    if stat.S_ISLNK(one.mode):
        return image.readlink(one.ref) == another.readlink(other.ref)
    if stat.S_ISREG(one.mode):
        stored = _shared(image, one, another, other, meter)
        # Where this file has a hole the other one may have data.
        return stored == one.size or (stored >= 0 and _shared(another, other, image, one, meter) >= 0)
    return True


def _shared(image: SquashfsImage, inode: Inode, another: SquashfsImage, other: Inode, meter: _Meter) -> int:
    """Return how many bytes of a file are stored, or -1 if another file does not have the same ones there."""
    stored = 0
    for piece in image.stored_pieces(inode.ref):
        meter.take(2 * piece.length)
        data = _bytes_of(image, piece)
        if data is None or data != another.read(other.ref, piece.offset, piece.length):
            return -1
        stored += piece.length
    return stored


def _bytes_of(image: SquashfsImage, piece: Piece) -> bytes | None:
    block = image.load(piece.position, piece.stored, image.superblock.block_size)
    data = block[piece.start : piece.start + piece.length]
    return data if len(data) == piece.length else None
