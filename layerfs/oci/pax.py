"""PAX records: `LENGTH KEY=VALUE` lines that overrule the header behind them (POSIX, pax interchange format)."""

import re
from typing import Final

from layerfs.errors import Corrupt

RECORDS_MAX: Final = 4 << 20  # bytes in one extended header; xattrs of a file have at most 64 KiB each
_TIME: Final = re.compile(rb"(-?)(\d{1,19})(?:\.(\d*))?")
_SECONDS_MAX: Final = (1 << 63) // 10**9 - 1  # what int64 nanoseconds hold

Records = dict[bytes, bytes]
XATTR: Final = b"SCHILY.xattr."
SPARSE: Final = b"GNU.sparse."


def parse_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return all records in their order. Raises Corrupt for lengths that lie, and for NULs in keys and names."""
    found = []
    at = 0
    while at < len(data):
        blank = data.find(b" ", at, at + 12)
        digits = data[at:blank] if blank > at else b""
        if not digits.isdigit():
            raise Corrupt("a PAX record has no length")
        end = at + int(digits)
        if end > len(data) or end <= blank + 1 or data[end - 1] != 0x0A:
            raise Corrupt("a PAX record has a wrong length")
        key, equals, value = data[blank + 1 : end - 1].partition(b"=")
        if not equals or not key or b"\0" in key:
            raise Corrupt("a PAX record has no key")
        if b"\0" in value and key in (b"path", b"linkpath", b"GNU.sparse.name"):
            raise Corrupt(f"a PAX record has a NUL in its {key.decode()}")
        found.append((key, value))
        at = end
    return found


def nanoseconds(text: bytes) -> int:
    """Return a time in seconds with a fraction as whole nanoseconds, rounded down."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise Corrupt(f"a PAX record has {text[:30]!r} where a time belongs")
    sign, whole, fraction = match.groups()
    digits = (fraction or b"")[:9].ljust(9, b"0")
    return bounded_time(int(whole + digits) * (-1 if sign else 1))


def bounded_time(value: int) -> int:
    """Return a time [ns] that the system can hold; Corrupt if it is none."""
    if abs(value) > _SECONDS_MAX * 10**9:
        raise Corrupt("a tar entry has a time that no file can have")
    return value


def decimal(text: bytes) -> int:
    """Return a decimal number that is not negative."""
    if not text.isdigit() or len(text) > 20:
        raise Corrupt(f"a PAX record has {text[:30]!r} where a number belongs")
    return int(text)
