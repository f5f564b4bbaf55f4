"""A tar written entry by entry: the same entries always give the same bytes.

ustar headers, with PAX records where they are too small: long or non-ASCII names, large numbers, xattrs, times with a
fraction. Owners have no names. Files with large holes are written sparse (PAX 1.0).
"""

import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from layerfs.errors import Corrupt
from layerfs.oci.header import BLOCK
from layerfs.oci.tar import HARD_LINK, Member

Write = Callable[[bytes | memoryview], object]

_TYPES: Final = {
    stat.S_IFREG: b"0", HARD_LINK: b"1", stat.S_IFLNK: b"2", stat.S_IFCHR: b"3", stat.S_IFBLK: b"4", stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}  # fmt: skip
END: Final = bytes(2 * BLOCK)
_NAME: Final = 100  # bytes
_PREFIX: Final = 155
_ID_MAX: Final = 0o7777777
_SIZE_MAX: Final = 0o77777777777
_PADDING: Final = bytes(BLOCK)


@dataclass(frozen=True, slots=True)
class Item:
    """One entry to write, and where its bytes come from; of a sparse file those of its extents."""

    member: Member
    data: Callable[[], Iterator[memoryview]] | None = None


@dataclass(frozen=True, slots=True)
class Style:
    """How entries are written. exact: times to the nanosecond; else whole seconds, as other writers have them."""

    exact: bool = True


EXACT: Final = Style()


def write_tar(items: Iterable[Item], write: Write, style: Style = EXACT) -> int:
    """Write a whole tar and return its length [bytes]. Raises Corrupt if a file changes meanwhile."""
    size = 0
    for item in items:
        for piece in _entry(item, style):
            write(piece)
            size += len(piece)
    write(END)
    return size + len(END)


def _entry(item: Item, style: Style) -> Iterator[bytes | memoryview]:
    member = item.member
    sparse_map = b""
    stored = member.size
    if member.extents is not None:
        sparse_map = _map(member)
        stored = len(sparse_map) + sum(length for _, length in member.extents)
    has_data = member.kind == stat.S_IFREG
    yield headers(member, stored if has_data else 0, style)
    if not has_data:
        return
    yield sparse_map
    left = stored - len(sparse_map)
    for piece in item.data() if item.data is not None and left else ():
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left:
        raise Corrupt(f"{member.path!r} changed while it was written out")
    yield _PADDING[: -stored % BLOCK]


def _map(member: Member) -> bytes:
    """Return the map of a sparse file (PAX 1.0), in whole blocks. A hole at the end is an empty piece."""
    pairs = [*(member.extents or ()), (member.size, 0)]
    text = b"%d\n" % len(pairs) + b"".join(b"%d\n%d\n" % pair for pair in pairs)
    return text + bytes(-len(text) % BLOCK)


def headers(member: Member, stored: int, style: Style) -> bytes:
    """Return the header of an entry, with an extended one before it where that is needed."""
    records: dict[bytes, bytes] = {}
    path = member.path + b"/" if member.kind == stat.S_IFDIR and member.path else member.path or b"./"
    name, prefix = _fitted(path, b"path", records)
    target, _ = _fitted(member.target, b"linkpath", records, split=False)
    uid = _number(member.uid, _ID_MAX, b"uid", records)
    gid = _number(member.gid, _ID_MAX, b"gid", records)
    size = _number(stored, _SIZE_MAX, b"size", records)
    seconds, fraction = divmod(member.mtime_ns, 10**9)
    if (fraction and style.exact) or not 0 <= seconds <= _SIZE_MAX:
        records[b"mtime"] = _time(member.mtime_ns if style.exact else seconds * 10**9)
    if member.extents is not None:
        records |= {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.name": path}
        records[b"GNU.sparse.realsize"] = b"%d" % member.size
    for key in sorted(member.xattrs):
        records[b"SCHILY.xattr." + key] = member.xattrs[key]
    block = _block(
        name, member.mode, uid, gid, size, min(max(seconds, 0), _SIZE_MAX), _TYPES[member.kind], target,
        member.major, member.minor, prefix,
    )  # fmt: skip
    return _extended(records) + block if records else block


def _fitted(text: bytes, key: bytes, records: dict[bytes, bytes], *, split: bool = True) -> tuple[bytes, bytes]:
    """Return what the header has of a name: all of it, in two parts if need be, or what is left beside a record."""
    if text.isascii():
        if len(text) <= _NAME:
            return text, b""
        at = text.find(b"/", len(text) - _NAME - 1) if split else -1
        if 0 < at <= _PREFIX and at + 1 < len(text):
            return text[at + 1 :], text[:at]
    records[key] = text
    return bytes(byte for byte in text if byte < 128)[:_NAME], b""


def _number(value: int, most: int, key: bytes, records: dict[bytes, bytes]) -> int:
    if value <= most:
        return value
    records[key] = b"%d" % value
    return 0


def _time(nanoseconds: int) -> bytes:
    whole, fraction = divmod(abs(nanoseconds), 10**9)
    sign = b"-" if nanoseconds < 0 else b""
    return b"%s%d.%09d" % (sign, whole, fraction) if fraction else b"%s%d" % (sign, whole)


def record(key: bytes, value: bytes) -> bytes:
    """Return one PAX record; its length counts its own digits."""
    rest = len(key) + len(value) + 3
    size = rest + len(b"%d" % rest)
    size = rest + len(b"%d" % size)
    return b"%d %s=%s\n" % (size, key, value)


def _extended(records: dict[bytes, bytes]) -> bytes:
    body = b"".join(record(key, records[key]) for key in sorted(records))
    block = _block(b"PaxHeaders/0", 0o644, 0, 0, len(body), 0, b"x", b"", 0, 0, b"")
    return block + body + bytes(-len(body) % BLOCK)


def _block(
    name: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, kind: bytes, target: bytes, major: int,
    minor: int, prefix: bytes,
) -> bytes:  # fmt: skip
    before = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    devices = b"%07o\0%07o\0" % (major, minor) if kind in (b"3", b"4") else bytes(16)
    after = b"%s%sustar\x0000%s%s%s" % (kind, target.ljust(100, b"\0"), bytes(64), devices, prefix.ljust(167, b"\0"))
    return b"%s%06o\0 %s" % (before, sum(before) + 8 * 32 + sum(after), after)
