"""Tars made by hand, entry by entry, also such as no program would write; and what became of them on disk."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerfs.oci.below import NothingBelow, UnionBelow
from layerfs.oci.layer import UNKNOWN, Applied, Destination, Expected, apply_layer, pack_layer
from layerfs.oci.target import USUAL, Limits, TargetForm
from layerfs.xar.extract import ExtractOptions, extract
from layerfs.xar.package import opened

END = bytes(1024)
NOW = 1_700_000_000  # s; what entries have that say nothing else


def octal(value: int, width: int) -> bytes:
    """A number as a header has it; base 256 where it is too large or negative."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return (value & ((1 << (8 * width)) - 1) | (1 << (8 * width - 1))).to_bytes(width, "big")


def header(name: bytes, kind: bytes = b"0", **fields: Any) -> bytes:
    """One block; `raw` replaces bytes at offsets after the checksum was made, `late` before."""
    given: dict[str, Any] = {
        "mode": 0o644,
        "uid": 0,
        "gid": 0,
        "size": 0,
        "mtime": NOW,
        "link": b"",
        "major": 0,
        "minor": 0,
    } | fields
    magic = given.get("magic", b"ustar\00000")
    block = bytearray(
        name.ljust(100, b"\0")
        + octal(given["mode"], 8) + octal(given["uid"], 8) + octal(given["gid"], 8)
        + octal(given["size"], 12) + octal(given["mtime"], 12) + b" " * 8 + kind
        + given["link"].ljust(100, b"\0") + magic + bytes(64)
        + octal(given["major"], 8) + octal(given["minor"], 8) + given.get("prefix", b"").ljust(155, b"\0") + bytes(12)
    )  # fmt: skip
    for at, data in given.get("late", {}).items():
        block[at : at + len(data)] = data
    block[148:156] = b"%06o\0 " % sum(block)
    for at, data in given.get("raw", {}).items():
        block[at : at + len(data)] = data
    assert len(block) == 512
    return bytes(block)


def padded(data: bytes) -> bytes:
    """Data as they stand behind a header."""
    return data + bytes(-len(data) % 512)


def record(key: bytes, value: bytes) -> bytes:
    """One PAX record."""
    size = len(key) + len(value) + 3
    while len(b"%d" % size) + len(key) + len(value) + 3 != size:
        size = len(b"%d" % size) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (size, key, value)


def pax(records: Mapping[bytes, bytes] | bytes, kind: bytes = b"x") -> bytes:
    """An extended header."""
    body = records if isinstance(records, bytes) else b"".join(record(*pair) for pair in records.items())
    return header(b"PaxHeaders/x", kind, size=len(body)) + padded(body)


def file(name: bytes, data: bytes = b"", **fields: Any) -> bytes:
    """A regular file."""
    return header(name, fields.pop("kind", b"0"), size=len(data), **fields) + padded(data)


def directory(name: bytes, **fields: Any) -> bytes:
    """A directory."""
    return header(name, b"5", **({"mode": 0o755} | fields))


def symlink(name: bytes, target: bytes, **fields: Any) -> bytes:
    """A symlink."""
    return header(name, b"2", link=target, mode=0o777, **fields)


def link(name: bytes, target: bytes, **fields: Any) -> bytes:
    """A hard link."""
    return header(name, b"1", link=target, **fields)


@dataclass
class Shown:
    """What a tree holds, by path: kind, mode, owner, content or target, number of names, times and xattrs."""

    entries: dict[str, "Entry"] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One path of a tree."""

    kind: str
    mode: int
    owner: tuple[int, int]
    content: bytes = b""
    rdev: int = 0
    mtime_ns: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()
    names: int = 1

    @property
    def brief(self) -> str:
        """The kind, and what is in it."""
        return self.kind + (":" + self.content.decode("latin-1") if self.content else "")


def look(root: Path) -> dict[str, Entry]:
    """Describe all below a directory, and itself as "." ."""
    found = {".": entry_of(root)}
    for place, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(place, name)
            found[str(path.relative_to(root))] = entry_of(path)
    return found


def entry_of(path: Path) -> Entry:
    st = path.lstat()
    kind = stat.filemode(st.st_mode)[0].replace("-", "f")
    content = path.read_bytes() if kind == "f" else os.fsencode(os.readlink(path)) if kind == "l" else b""
    names = os.listxattr(path, follow_symlinks=False)
    shown = tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names))
    links = 1 if kind == "d" else st.st_nlink
    mode = stat.S_IMODE(st.st_mode)
    return Entry(kind, mode, (st.st_uid, st.st_gid), content, st.st_rdev, st.st_mtime_ns, shown, links)


def brief(root: Path) -> dict[str, str]:
    """Describe a tree shortly."""
    return {path: entry.brief for path, entry in look(root).items() if path != "."}


def feeder(data: bytes, step: int = 1 << 16) -> Callable[[int], bytes]:
    """Give bytes as a file would, in small pieces."""
    view = memoryview(data)
    at = 0

    def read(count: int) -> bytes:
        nonlocal at
        piece = bytes(view[at : at + min(count, step)])
        at += len(piece)
        return piece

    return read


def apply(
    data: bytes, root: Path, *, expected: Expected = UNKNOWN, limits: Limits = USUAL, step: int = 1 << 16, **place: Any
) -> Applied:
    """Apply a layer to a directory, made if it is missing."""
    root.mkdir(exist_ok=True)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return apply_layer(feeder(data, step), Destination(fd, **place), expected, limits=limits)
    finally:
        os.close(fd)


@contextmanager
def below(*layers: Path) -> Iterator[UnionBelow | NothingBelow]:
    """Layers as those below, top first."""
    if not layers:
        yield NothingBelow()
        return
    with UnionBelow([os.fsencode(layer) for layer in layers]) as found:
        yield found


def stacked(layers: list[bytes], place: Path) -> list[Path]:
    """Apply layers, the bottom one first, each to an upper of its own; return these, top first."""
    uppers: list[Path] = []
    for number, data in enumerate(layers):
        with below(*uppers) as lower:
            apply(data, place / f"layer{number}", below=lower)
        uppers.insert(0, place / f"layer{number}")
    return uppers


def packed(layers: list[bytes], place: Path) -> list[Path]:
    """Make an image of each layer, and return directories with what is in them, top first."""
    images: list[Path] = []
    trees: list[Path] = []
    for number, data in enumerate(layers):
        image, tree = place / f"layer{number}.xar", place / f"layer{number}"
        with below(*images) as lower:
            pack_layer(feeder(data), bytes(image), lower)
        with opened(bytes(image)) as package:
            assert extract(package.image, bytes(tree), ExtractOptions(owners=True, force=True)).left_out == []
        images.insert(0, image)
        trees.insert(0, tree)
    return trees


def piled(layers: list[bytes], root: Path) -> Path:
    """Apply layers one after another to one tree."""
    for data in layers:
        apply(data, root, form=TargetForm.PLAIN)
    return root
