"""One 512-byte header of a tar, its numbers and its name (POSIX ustar, GNU, star and v7 forms).

Each field is a stranger's: what is no number of its kind, or out of range, is Corrupt.
"""

import struct
import zlib
from functools import lru_cache
from typing import Final, NamedTuple

from layerfs.errors import Corrupt

BLOCK: Final = 512  # bytes
ZERO: Final = bytes(BLOCK)
SIZE_MAX: Final = 1 << 62  # bytes; more than any filesystem's files
_FIELDS: Final = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_ADLER: Final = 65521
_OCTAL: Final = b"01234567"


class TarHeader(NamedTuple):
    """What one header says, as bytes or numbers; `size` and the rest may be overruled by records before it."""

    name: bytes
    mode: int
    uid: bytes
    gid: bytes
    size: int
    mtime: int
    type: bytes
    link: bytes
    major: bytes
    minor: bytes


def parse_header(block: bytes) -> TarHeader:
    """Parse a header that is no block of zeros. Raises Corrupt."""
    fields = _FIELDS.unpack(block)
    name, mode, uid, gid, size, mtime, checksum, kind, link, magic, _, _, major, minor, prefix = fields
    _check(block, checksum)
    if magic[:6] == b"ustar\0":  # GNU's magic has other things where the prefix is
        if block[508:512] == b"tar\0":
            prefix = prefix[:131]  # star
        name = _joined(prefix, name)
    else:
        name = name.partition(b"\0")[0]
    length = number(size)
    if not 0 <= length <= SIZE_MAX:
        raise Corrupt(f"a tar header has size {length}")
    return TarHeader(
        name, small(mode) & 0o7777, uid, gid, length, number(mtime), kind, link.partition(b"\0")[0], major, minor
    )


def _check(block: bytes, stored: bytes) -> None:
    """Compare the sum of all bytes, the checksum's own counting as blanks.

    zlib.adler32's lower half is that sum modulo a prime, twenty times as quick as sum().
    """
    wanted = small(stored)
    blank = block[:148] + b"        " + block[156:]
    if (zlib.adler32(blank) & 0xFFFF) - 1 == wanted % _ADLER:
        return
    total = sum(blank)
    if wanted not in (total, total - 256 * sum(byte >= 128 for byte in blank)):  # old programs added signed bytes
        raise Corrupt("a tar header has a wrong checksum")


def _joined(prefix: bytes, name: bytes) -> bytes:
    name = name.partition(b"\0")[0]
    prefix = prefix.partition(b"\0")[0]
    return prefix + b"/" + name if prefix else name


@lru_cache(maxsize=4096)
def small(field: bytes) -> int:
    """Return a number that is often the same: mode, owner, device."""
    return number(field)


def number(field: bytes) -> int:
    """Return a number in octal digits, or in base 256 as GNU and star write large and negative ones."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    text = field.partition(b"\0")[0].strip(b" ")
    if not text:
        text = field.strip(b" \0")
    if text.strip(_OCTAL):
        raise Corrupt(f"a tar header has {text[:20]!r} where a number belongs")
    return int(text, 8) if text else 0
