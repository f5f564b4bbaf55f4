"""Trees made by recipe: own, shared, mixed, big, wide-N and million; random bytes unless it says otherwise.

own      10,000 files of 4 KiB in 200 directories; each directory lives in one layer
shared   the same files; every directory exists in every layer, its files spread over them
mixed    own, and in each of the two lowest layers a file of 256 MiB: random bytes, and text that shrinks to a third
deep     own below one directory: a mount's first listing shows one name, not 200
tiny     own, 50 times smaller: for tests
big      files of 4 KiB (1,000), 1 MiB (20), 256 MiB and, when asked for, 1 GiB, all in the lowest layer
wide-N   one directory of N empty files, spread over all layers
million  1,000,000 empty files in 1,000 directories; each directory lives in one layer
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

from benchmarks.model import BenchError, BuiltTree

VERSION = "v1"
WHEN = 1_700_000_000  # every file's and directory's mtime


@dataclass(frozen=True, slots=True)
class Shape:
    """How files are laid out: `spread` puts a directory's files into all layers instead of one, `below` all of them."""

    directories: int
    files: int
    size: int
    spread: bool = False
    below: str = ""


SHAPES = {
    "own": Shape(200, 50, 4096),
    "shared": Shape(200, 50, 4096, spread=True),
    "mixed": Shape(200, 50, 4096),
    "deep": Shape(200, 50, 4096, below="top/"),
    "tiny": Shape(10, 20, 4096),
    "wide-100": Shape(1, 100, 0, spread=True),
    "wide-5000": Shape(1, 5000, 0, spread=True),
    "wide-10000": Shape(1, 10_000, 0, spread=True),
    "wide-100000": Shape(1, 100_000, 0, spread=True),
    "million": Shape(1000, 1000, 0),
    "big": Shape(0, 0, 0),
    "huge": Shape(0, 0, 0),
}
LARGE = {
    "big": {"4k": (1000, 4096), "1m": (20, 1 << 20), "256m": (1, 256 << 20)},
    "huge": {"1g": (1, 1 << 30)},
    "mixed": {"random": (1, 256 << 20), "text": (1, 256 << 20)},
}
"""Directories of files of one size, beside what the shape says: how many, and their size [bytes]."""
BLOCK = 1 << 16  # bytes made at a time; does not repeat within a file


def build(name: str, layers: int, cache: Path, owner: int = 0) -> BuiltTree:
    """Build or find a tree; complete ones are recognised by their final name, which is given last."""
    home = cache / "trees" / VERSION / (f"{name}-{owner}" if owner else name)
    final = home / str(layers)
    if not final.exists():
        fresh = home / f".{layers}.{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            write(SHAPES[name], name, layers, fresh, owner)
            fresh.rename(final)
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise BenchError(f"cannot build the tree {name}: {error}") from error
    flat = final if layers == 1 else build(name, 1, cache, owner).lowers[0].parent
    lowers = tuple(final / f"{index:03d}" for index in range(layers))
    count = sum(1 for _ in names(name))
    return BuiltTree(name, lowers, flat / "000", final / "present", final / "absent", count)


def names(name: str) -> Iterator[tuple[str, int, int, int]]:
    """Yield every file of the tree: path, size, and the indices of its directory and of it therein."""
    shape = SHAPES[name]
    large = LARGE.get(name, {})
    for below, (kind, (count, size)) in enumerate(large.items(), -len(large)):
        for index in range(count):
            yield f"{kind}/f{index:06d}", size, below, index
    for directory in range(shape.directories):
        for index in range(shape.files):
            yield f"{shape.below}d{directory:04d}/f{index:06d}", shape.size, directory, index


def recipe(name: str) -> str:
    """Return words that differ wherever two trees differ; a tree that is no recipe of ours is told by its name."""
    return f"{VERSION} {name} {SHAPES.get(name)} {LARGE.get(name)}"


def write(shape: Shape, name: str, layers: int, home: Path, owner: int) -> None:
    """Write the layers, top first, and the two name lists."""
    paths = [home / f"{index:03d}" for index in range(layers)]
    for path in paths:
        make_directory(path, owner)
    seed = random.Random(name)
    for file, size, directory, index in names(name):
        layer = layers - 1 if not shape.files else (index if shape.spread else directory) % layers
        if index == 0 and shape.spread:
            for path in paths:
                make_directory(path / os.path.dirname(file), owner)
        for parent in reversed(Path(file).parents[:-1]):
            make_directory(paths[layer] / parent, owner)
        make_file(paths[layer] / file, size, seed, owner)
    for path in paths:
        for directory_path, _, _ in os.walk(path, topdown=False):
            os.utime(directory_path, (WHEN, WHEN))
    lists(home, name)
    os.sync()


def lists(home: Path, name: str) -> None:
    """Write the names that exist and as many that do not, NUL-separated, in the order of a walk."""
    present = [file for file, *_ in names(name)]
    (home / "present").write_bytes("".join(file + "\0" for file in present).encode())
    (home / "absent").write_bytes("".join(file + ".absent\0" for file in present).encode())


def lists_of(home: Path, root: Path) -> tuple[Path, Path]:
    """Write the lists for any tree: its regular files, and an absent name for each. Returns present and absent."""
    present, absent = home / "present", home / "absent"
    if not present.exists():
        names = [
            os.path.relpath(os.path.join(directory, name), root)
            for directory, _, files in os.walk(root)
            for name in sorted(files)
            if not os.path.islink(os.path.join(directory, name))
        ]
        absent.write_bytes(b"".join(os.fsencode(name) + b".absent\0" for name in names))
        present.write_bytes(b"".join(os.fsencode(name) + b"\0" for name in names))
    return present, absent


def make_directory(path: Path, owner: int) -> None:
    """Make a directory unless it is there."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return
    path.chmod(0o755)
    if owner and os.geteuid() == 0:
        os.chown(path, owner, owner)


def make_file(path: Path, size: int, seed: random.Random, owner: int) -> None:
    """Write `size` bytes, block by block, each keyed by the file's own random number: text below text/, else noise."""
    key = seed.getrandbits(64).to_bytes(8, "little")
    make = text if path.parent.name == "text" else noise
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        for offset in range(0, size, BLOCK):
            os.write(fd, make(key + offset.to_bytes(8, "little"), min(BLOCK, size - offset)))
        os.utime(fd, (WHEN, WHEN))
        if owner and os.geteuid() == 0:
            os.chown(fd, owner, owner)
    finally:
        os.close(fd)


def noise(key: bytes, size: int) -> bytes:
    """Return bytes that neither compress nor repeat."""
    return hashlib.shake_128(key).digest(size)


def text(key: bytes, size: int) -> bytes:
    """Return sentences that zstd, level 3, shrinks to about a third in blocks of 128 KiB."""
    said = random.Random(key).choices(sentences(), k=size // 30 + 1)
    return "".join(said).encode()[:size]


@once
def sentences() -> list[str]:
    """Return 20,000 sentences of eight words, 28 to 82 letters each."""
    seed = random.Random("sentences")
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(seed.choices(letters, range(26, 0, -1), k=seed.randrange(2, 11))) for _ in range(2000)]
    return [" ".join(seed.choices(words, k=8)) + "\n" for _ in range(20_000)]
