"""Sparse files in a tar: GNU's old headers, and the PAX forms 0.0, 0.1 and 1.0 (GNU tar manual, "Sparse Formats").

All lead to one map: the extents that hold data, in order, not overlapping, within the file's size. Holes lie between.
"""

from collections.abc import Callable, Sequence
from typing import Final

from layerfs.errors import Corrupt
from layerfs.oci.header import BLOCK, SIZE_MAX, number
from layerfs.oci.pax import SPARSE, decimal

Extents = tuple[tuple[int, int], ...]
Take = Callable[[int], bytes]

EXTENTS_MAX: Final = 1 << 18  # of one file; guessed: ext4 has at most 128 MiB in one, btrfs too
_PAIR: Final = 24  # bytes: two numbers
_DIGITS_MAX: Final = 20


def old_gnu(block: bytes, take: Take) -> tuple[int, Extents]:
    """Return size and map of an entry of type S; `take` gives the blocks that go on with the map."""
    size = number(block[483:495])
    pairs = _pairs(block[386:482])
    more = block[482:483] not in (b"\0", b"0")
    while more:
        block = take(BLOCK)
        pairs += _pairs(block[:504])
        more = block[504:505] not in (b"\0", b"0")
        _count(len(pairs))
    return size, checked(pairs, size)


def _pairs(area: bytes) -> list[tuple[int, int]]:
    found = []
    for at in range(0, len(area), _PAIR):
        field = area[at : at + _PAIR]
        if not field.strip(b"\0"):
            break
        found.append((number(field[:12]), number(field[12:])))
    return found


def in_records(records: Sequence[tuple[bytes, bytes]]) -> tuple[int, Extents] | None:
    """Return size and map that PAX records hold (0.0 and 0.1); None if they hold none."""
    size, listed, offsets, lengths = None, None, [], []
    for key, value in records:
        if key == SPARSE + b"size":
            size = decimal(value)
        elif key == SPARSE + b"map":
            listed = value
        elif key == SPARSE + b"offset":
            offsets.append(decimal(value))
        elif key == SPARSE + b"numbytes":
            lengths.append(decimal(value))
    if listed is not None:
        numbers = [decimal(text) for text in listed.split(b",")] if listed else []
        offsets, lengths = numbers[::2], numbers[1::2]
    if size is None:
        if offsets or lengths:
            raise Corrupt("a sparse file has no size")
        return None
    if len(offsets) != len(lengths):
        raise Corrupt("a sparse file has a map that is cut off")
    _count(len(offsets))
    return size, checked(list(zip(offsets, lengths, strict=True)), size)


def leading(take: Take, room: int, size: int) -> tuple[int, Extents]:
    """Read the map at the beginning of the data (1.0), at most `room` bytes; return the bytes used, and the map."""
    lines = _Lines(take, room)
    count = lines.number()
    _count(count)
    pairs = [(lines.number(), lines.number()) for _ in range(count)]
    return lines.used, checked(pairs, size)


class _Lines:
    """Decimal numbers, each with a newline, in blocks."""

    def __init__(self, take: Take, room: int) -> None:
        self._take = take
        self._room = room
        self._text = b""
        self.used = 0

    def number(self) -> int:
        while b"\n" not in self._text[: _DIGITS_MAX + 1]:
            if len(self._text) > _DIGITS_MAX or self.used + BLOCK > self._room:
                raise Corrupt("a sparse file has a map that is no list of numbers")
            self._text += self._take(BLOCK)
            self.used += BLOCK
        line, _, self._text = self._text.partition(b"\n")
        return decimal(line)


def _count(count: int) -> None:
    if count > EXTENTS_MAX:
        raise Corrupt(f"a sparse file has a map of more than {EXTENTS_MAX} pieces")


def checked(pairs: Sequence[tuple[int, int]], size: int) -> Extents:
    """Return a map without its empty pieces; Corrupt if they overlap or lie outside the file."""
    if not 0 <= size <= SIZE_MAX:
        raise Corrupt(f"a sparse file has size {size}")
    end = 0
    for offset, length in pairs:
        if offset < end or length < 0 or offset + length > size:
            raise Corrupt("a sparse file has a map with pieces that overlap or lie outside")
        end = offset + length
    return tuple((offset, length) for offset, length in pairs if length)
