"""Digests of a file's content: XXH3-128 where speed matters, SHA-256 where collisions could be forged.

Read in pieces, so that an image of any size takes little memory. 32-bit UUIDs of XAR headers name nothing here.
"""

import hashlib
import os
from collections.abc import Iterator
from typing import NamedTuple

import xxhash

PIECE = 1 << 20  # bytes read at once; guessed, not yet measured


class Digests(NamedTuple):
    """Both digests of one content [hex digits], and its size [bytes]."""

    xxh3: str
    sha256: str
    size: int


def quick(fd: int) -> str:
    """Return the XXH3-128 of an open file, from its beginning: it finds damage, not malice. Raises OSError."""
    state = xxhash.xxh3_128()
    for piece in _pieces(fd):
        state.update(piece)
    return state.hexdigest()


def trusted(fd: int) -> str:
    """Return the SHA-256 of an open file, from its beginning. Raises OSError."""
    state = hashlib.sha256()
    for piece in _pieces(fd):
        state.update(piece)
    return state.hexdigest()


def both(fd: int) -> Digests:
    """Return both digests, reading once. Raises OSError."""
    xxh3, sha256, size = xxhash.xxh3_128(), hashlib.sha256(), 0
    for piece in _pieces(fd):
        xxh3.update(piece)
        sha256.update(piece)
        size += len(piece)
    return Digests(xxh3.hexdigest(), sha256.hexdigest(), size)


def same_content(one: int, other: int) -> bool:
    """Tell whether two open files hold the same bytes; no digest can be fooled where the bytes are compared."""
    if os.fstat(one).st_size != os.fstat(other).st_size:
        return False
    offset = 0
    while True:
        piece = os.pread(one, PIECE, offset)
        if piece != os.pread(other, PIECE, offset):
            return False
        if not piece:
            return True
        offset += len(piece)


def _pieces(fd: int) -> Iterator[memoryview]:
    """Yield a file's bytes in one buffer that is used again and again."""
    buffer = memoryview(bytearray(PIECE))
    offset = 0
    while count := os.preadv(fd, [buffer], offset):
        yield buffer[:count]
        offset += count
