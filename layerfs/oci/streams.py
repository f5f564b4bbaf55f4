"""A layer's bytes: recognised by their beginning, decompressed to the very end, hashed on both sides.

gzip may have any number of members and zeros behind them, zstd any number of frames, skippable ones too. What ends
early or has other bytes behind it is Corrupt, never a shorter layer. What becomes too large is refused, by whomever it
is read: a few bytes can stand for as many as one likes.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any, Final

from layerfs.errors import Corrupt, InvalidArgument, Unsupported
from layerfs.oci.digest import Digest, Hashed, Hasher, KnownDigest

PIECE: Final = 256 << 10  # bytes; larger ones keep the interpreter from other threads (measured: 1 s for 384 MB)
UNPACKED_MAX: Final = 256 << 30  # bytes that a layer may have, unless somebody says otherwise
MORE: Final = "if that is right, allow more: --max-size"  # hint
GZIP: Final = b"\x1f\x8b"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE: Final = b"\x2a\x4d\x18"  # behind a byte 0x50 to 0x5f (RFC 8878, 3.1.2)
_FOREIGN: Final = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x04\x22\x4d\x18": "lz4"}

Read = Callable[[int], bytes]
Pieces = Iterator[bytes]


def reader_of(fd: int) -> Read:
    """Return the function that reads on from a descriptor, which may be a pipe."""
    return lambda count: os.read(fd, count)


class LayerStream:
    """Iterate over a layer's uncompressed bytes; afterwards `packed` and `unpacked` know both digests.

    A plain stream is hashed once. With `known` a compressed one is too: that is its digest, as was seen before, and its
    bytes are only counted. Hashing is a quarter of what a layer costs.

    `check` is called for each piece and may raise, to cancel. Raises Corrupt for bytes that are no whole stream,
    InvalidArgument for more than `most` uncompressed bytes.
    """

    def __init__(
        self,
        read: Read,
        check: Callable[[], None] = lambda: None,
        most: int = UNPACKED_MAX,
        known: Digest | None = None,
    ) -> None:
        self._read = read
        self._check = check
        self._most = most
        self.packed: Hashed = Hasher() if known is None else KnownDigest(known)
        self.unpacked = Hasher()
        self.compression = ""

    def __iter__(self) -> Pieces:
        raw = self._raw()
        first = _at_least(raw, 6)
        self.compression = sniff(first)
        if self.compression:
            self.packed.update(first)
            raw = self._noted(raw)
        else:
            self.packed = self.unpacked
        for piece in _DECODERS[self.compression](_Input(first, raw)):
            self._check()
            if self.unpacked.size + len(piece) > self._most:
                raise InvalidArgument(f"the layer has more than {self._most} bytes", MORE)
            self.unpacked.update(piece)
            yield piece

    def _raw(self) -> Pieces:
        while piece := self._read(PIECE):
            self._check()
            yield piece

    def _noted(self, raw: Pieces) -> Pieces:
        for piece in raw:
            self.packed.update(piece)
            yield piece


def sniff(head: bytes) -> str:
    """Return how a stream is compressed, by its first bytes: "gzip", "zstd", or "" for a plain one."""
    if head.startswith(GZIP):
        return "gzip"
    if _begins_frame(head):
        return "zstd"
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            raise Unsupported(f"the layer is compressed with {name}", "layers are plain, gzip or zstd")
    return ""


def _begins_frame(head: bytes) -> bool:
    return head.startswith(ZSTD) or (len(head) >= 4 and head[0] & 0xF0 == 0x50 and head[1:4] == _SKIPPABLE)


def _at_least(pieces: Pieces, count: int) -> bytes:
    """Return so many first bytes of a stream, or more; fewer only if there are no more."""
    found = b""
    while len(found) < count and (piece := next(pieces, b"")):
        found += piece
    return found


class _Input:
    """What is left of the compressed bytes."""

    __slots__ = ("_pieces", "left")

    def __init__(self, first: bytes, pieces: Pieces) -> None:
        self.left = first
        self._pieces = pieces

    def more(self) -> bytes:
        """Return the bytes that are left over, or else the next piece; nothing at the end."""
        taken, self.left = self.left, b""
        return taken or next(self._pieces, b"")

    def head(self, count: int) -> bytes:
        """Return the next bytes without taking them."""
        while len(self.left) < count and (piece := next(self._pieces, b"")):
            self.left += piece
        return self.left[:count]


def _plain(source: _Input) -> Pieces:
    while piece := source.more():
        yield piece


def _gzip(source: _Input) -> Pieces:
    from isal.igzip_lib import IsalError
    from isal.isal_zlib import decompressobj

    while source.head(2):
        if source.head(2) == GZIP:
            yield from _member(source, decompressobj(wbits=31), IsalError)
            continue
        rest = source.more()
        source.left = rest.lstrip(b"\0")
        if (source.left and source.head(2) != GZIP) or len(source.left) == len(rest):
            raise Corrupt("the layer has other bytes behind its gzip data")


def _member(source: _Input, decoder: Any, failure: Any) -> Pieces:
    """Decompress one member; output is bounded by the piece, whatever the input says."""
    data = source.more()
    while not decoder.eof:
        try:
            piece = decoder.decompress(data, PIECE)
        except failure as error:
            raise Corrupt(f"the layer's gzip data are damaged: {error}") from None
        data = decoder.unconsumed_tail
        if piece:
            yield piece
        elif not data and not decoder.eof:
            data = source.more()
            if not data:
                raise Corrupt("the layer's gzip data end early")
    source.left = decoder.unused_data


def _zstd(source: _Input) -> Pieces:
    from backports.zstd import ZstdDecompressor, ZstdError

    while head := source.head(4):
        if not _begins_frame(head):
            raise Corrupt("the layer has other bytes behind its zstd data")
        yield from _frame(source, ZstdDecompressor(), ZstdError)


def _frame(source: _Input, decoder: Any, failure: Any) -> Pieces:
    while not decoder.eof:
        data = source.more() if decoder.needs_input else b""
        if decoder.needs_input and not data:
            raise Corrupt("the layer's zstd data end early")
        try:
            piece = decoder.decompress(data, PIECE)
        except failure as error:
            if "memory" in str(error):
                said = "the layer's zstd data need a window of more than 128 MiB"
                raise Unsupported(said, "have it compressed anew, without --long=28 or more") from None
            raise Corrupt(f"the layer's zstd data are damaged: {error}") from None
        if piece:
            yield piece
    source.left = decoder.unused_data


_DECODERS: Final[dict[str, Callable[[_Input], Pieces]]] = {"": _plain, "gzip": _gzip, "zstd": _zstd}
