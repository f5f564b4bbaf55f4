"""Where a file's bytes lie: its pieces, fetched from the image as they are asked for."""

from _thread import allocate_lock
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from struct import Struct
from typing import Any, overload

from layerfs.pysquashfs._squashfs import ffi, lib
from layerfs.pysquashfs.recent import Recent
from layerfs.pysquashfs.values import Piece

BATCH = 512  # pieces; as many as squash_blocks has room for
KEPT = 32  # batches; about 2 MiB of memory

_records = Struct("=QIqII").iter_unpack
_piece: Callable[[Any], Piece] = partial(tuple.__new__, Piece)
_Place = tuple[int, int, int, int]


class Pieces(Sequence[Piece]):
    """The pieces of one large file. Random access costs a walk over the block list the first time, then little.

    May be shared by threads. `fail` makes the exception of a C function's status.
    """

    def __init__(self, image: Any, blocks: Any, block_size: int, fail: Callable[[int], Exception]) -> None:
        self._image = image
        self._master = blocks
        self._fail = fail
        self._tail = tail(blocks, block_size)
        self._places: dict[int, _Place] = {0: (blocks.block, blocks.position, blocks.done, blocks.offset)}
        self._batches: Recent[int, list[Piece]] = Recent(KEPT)
        self._lock = allocate_lock()

    def __len__(self) -> int:
        return int(self._master.total) + len(self._tail)

    @overload
    def __getitem__(self, index: int) -> Piece: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Piece]: ...
    def __getitem__(self, index: int | slice) -> Piece | Sequence[Piece]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = index if index >= 0 else index + len(self)
        if not 0 <= place < len(self):
            raise IndexError(index)
        if place >= self._master.total:
            return self._tail[0]
        return self._batch(place // BATCH)[place % BATCH]

    def __iter__(self) -> Iterator[Piece]:
        for index in range(len(self)):
            yield self[index]

    def _batch(self, number: int) -> list[Piece]:
        with self._lock:
            found = self._batches.get(number)
            if found is None:
                blocks = self._go_to(number)
                found = fetch(self._image, blocks, self._fail)
                self._places[number + 1] = (blocks.block, blocks.position, blocks.done, blocks.offset)
                self._batches.put(number, found)
        return found

    def _go_to(self, number: int) -> Any:
        """Return a walker placed before a batch; where the batches on the way begin is remembered."""
        at = number
        while at not in self._places:
            at -= 1
        blocks = ffi.new("squash_blocks *")
        blocks.block, blocks.position, blocks.done, blocks.offset = self._places[at]
        blocks.total, blocks.size = self._master.total, self._master.size
        while at < number:
            status = lib.squash_pieces(self._image, blocks, BATCH, lib.SQUASH_KEEP_NONE)
            if status < 0:
                raise self._fail(status)
            at += 1
            self._places[at] = (blocks.block, blocks.position, blocks.done, blocks.offset)
        return blocks


def fetch(image: Any, blocks: Any, fail: Callable[[int], Exception]) -> list[Piece]:
    """Return the next BATCH pieces, or all that are left, and move on."""
    return _fetch(image, blocks, fail, lib.SQUASH_KEEP_ALL)


def stored(image: Any, blocks: Any, block_size: int, fail: Callable[[int], Exception]) -> Iterator[Piece]:
    """Yield the pieces that are no holes, from where the walker is to the file's end."""
    while blocks.done < blocks.total:
        yield from _fetch(image, blocks, fail, lib.SQUASH_KEEP_STORED)
    yield from tail(blocks, block_size)


def _fetch(image: Any, blocks: Any, fail: Callable[[int], Exception], keep: int) -> list[Piece]:
    count = lib.squash_pieces(image, blocks, BATCH, keep)
    if count < 0:
        raise fail(count)
    return list(map(_piece, _records(ffi.buffer(blocks.records, count * 28))))


def tail(blocks: Any, block_size: int) -> list[Piece]:
    """Return the piece in a fragment block, when there is one."""
    if blocks.fragment_position < 0:
        return []
    length = blocks.size % block_size
    return [
        Piece(blocks.size - length, length, blocks.fragment_position, blocks.fragment_stored, blocks.fragment_start)
    ]
