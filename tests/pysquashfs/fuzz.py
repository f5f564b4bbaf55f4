"""Damage images and read all of them: `python -m tests.pysquashfs.fuzz --seed 1 --count 1000 IMAGE...`.

Runs in a process of its own, with little memory and a time limit for each case, and writes the number of the case it is
at to descriptor `--at`, so that whoever started it can say which one killed it. A case depends on its number only.
"""

import argparse
import os
import random
import resource
import signal
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from layerfs.pysquashfs import Inode, Piece, SquashfsError, SquashfsImage
from layerfs.pysquashfs.blockcache import BlockCache
from layerfs.pysquashfs.copying import copy_file
from tests.pysquashfs.answering import Answering

MEMORY = 512 << 20  # bytes of address space; Python alone has 60 MiB
RESIDENT = 160 << 20  # bytes
CASE_TIME = 5  # s of CPU: by the wall a busy machine stops longer. What is normal is a millisecond
COPIED = 1 << 20  # bytes of a file
LOOKS = 400  # how much of one image is looked at in detail

# Superblock fields: position and size; squashfs 4.0.
FIELDS = {4: 4, 8: 4, 12: 4, 16: 4, 20: 2, 22: 2, 24: 2, 26: 2, 28: 2, 30: 2} | dict.fromkeys(range(32, 96, 8), 8)
TABLES = (48, 56, 64, 72, 80, 88)  # the positions of tables, among them
NUMBERS = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 2**24, 2**31 - 1, 2**31, 2**32 - 1,
           2**48, 2**60, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip


def damage(image: bytes, dice: random.Random) -> bytes:
    """Return the image with one to four things wrong."""
    changed = bytearray(image)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        dice.choices((_flip, _number, _field, _splice, _truncate), weights=(4, 6, 2, 2, 1))[0](changed, dice)
    return bytes(changed)


def _place(image: bytearray, dice: random.Random) -> int:
    """Somewhere; mostly in metadata, which lies behind the data."""
    inodes = int.from_bytes(image[64:72], "little")
    lowest = inodes if dice.random() < 0.8 and inodes < len(image) else 0
    return dice.randrange(lowest, max(len(image), lowest + 1))


def _flip(image: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice((1, 1, 2, 8))):
        if image:
            image[min(_place(image, dice), len(image) - 1)] ^= dice.randrange(1, 256)


def _number(image: bytearray, dice: random.Random) -> None:
    _write(image, _place(image, dice), dice.choice((1, 2, 2, 4, 4, 8)), dice)


def _field(image: bytearray, dice: random.Random) -> None:
    at, size = dice.choice(list(FIELDS.items()))
    _write(image, at, size, dice)


def _write(image: bytearray, at: int, size: int, dice: random.Random) -> None:
    if at + size > len(image):
        return
    old = int.from_bytes(image[at : at + size], "little")
    table = int.from_bytes(image[(start := dice.choice(TABLES)) : start + 8], "little")
    new = dice.choice((dice.choice(NUMBERS), old + dice.choice((-1, 1, -4, 4, 8, 8192)), table, len(image), old << 1))
    image[at : at + size] = (new % 256**size).to_bytes(size, "little")


def _splice(image: bytearray, dice: random.Random) -> None:
    size = dice.choice((2, 8, 12, 32, 200, 4000))
    source, target = _place(image, dice), _place(image, dice)
    piece = image[source : source + size]
    image[target : target + len(piece)] = piece


def _truncate(image: bytearray, dice: random.Random) -> None:
    del image[dice.randrange(len(image) + 1) :]


def examine(image: SquashfsImage) -> None:
    """Ask everything of an image that can be asked; each answer may be a SquashfsError, and nothing else."""
    _try(lambda: list(islice(image.walk(), 100_000)))
    _try(lambda: list(islice(image.visit(b"a"), 100_000)))
    _try(lambda: [image.by_number(number) for number in range(1, 30)])
    _try(lambda: image.lookup(b"a/b/c"))
    answering = Answering(image)
    seen: set[int] = set()
    waiting = [image.superblock.root_ref]
    while waiting and len(seen) < LOOKS:
        ref = waiting.pop()
        if ref not in seen:
            seen.add(ref)
            waiting += _try(partial(_look, image, answering, ref)) or []


def _look(image: SquashfsImage, answering: Answering, ref: int) -> list[int]:
    inode = image.inode(ref)
    _answer(answering, ref, inode.mode)
    _try(lambda: image.xattrs(inode.ref))
    if stat.S_ISLNK(inode.mode):
        image.readlink(inode.ref)
    elif stat.S_ISREG(inode.mode):
        _look_at_data(image, inode)
    elif stat.S_ISDIR(inode.mode):
        entries = list(image.readdir(inode.ref))
        for name, _, _, _ in entries[:: max(1, len(entries) // 10)]:
            _try(partial(image.find, inode.ref, name))
        _try(lambda: image.find(inode.ref, b"zzz"))
        _try(lambda: image.scan(inode.ref))
        return [ref for _, ref, _, _ in entries]
    return []


def _answer(answering: Answering, ref: int, mode: int) -> None:
    """Have the image answer as it does for the lane."""
    questions: list[Callable[[], object]] = [partial(answering.stat, ref)]
    if stat.S_ISLNK(mode):
        questions.append(partial(answering.link, ref, 4096))
    elif not stat.S_ISDIR(mode):
        questions += [partial(answering.read, ref, offset, 9000) for offset in (0, 5, 2**64 - 1)]
    for question in questions:
        with suppress(OSError):
            question()


def _look_at_data(image: SquashfsImage, inode: Inode) -> None:
    pieces = image.pieces(inode.ref)
    count = len(pieces)
    for index in {0, 1, 2, 511, 512, count // 2, count - 1}:
        if 0 <= index < count:
            _try(partial(_load, image, pieces, index))
    for offset in (0, inode.size // 2, inode.size - 10):
        _try(partial(image.read, inode.ref, max(offset, 0), 100_000))
    _try(lambda: list(islice(image.stored_pieces(inode.ref), 10_000)))
    _try(partial(_copy, image, inode))


def _copy(image: SquashfsImage, inode: Inode) -> None:
    target = os.memfd_create("copy")
    try:
        with BlockCache() as blocks:
            copy_file(image, inode, target, blocks, min(inode.size, COPIED))
    finally:
        os.close(target)


def _load(image: SquashfsImage, pieces: Sequence[Piece], index: int) -> None:
    piece = pieces[index]
    image.load(piece.position, piece.stored, image.superblock.block_size)
    image.load(piece.position, piece.stored, min(piece.length, image.superblock.block_size))


def _try(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except SquashfsError as error:
        assert error.errno and str(error), error
        return None


def campaign(images: Sequence[bytes], seed: int, numbers: Iterable[int], at: int | None) -> tuple[float, int]:
    """Read damaged images, one after the other; returns the longest time that one took [s of CPU], and which."""
    slowest = 0.0, -1
    file = os.memfd_create("damaged")
    for number in numbers:
        if at is not None:
            os.pwrite(at, struct.pack("q", number), 0)
        dice = random.Random(f"{seed} {number}")
        image = damage(images[number % len(images)], dice)
        os.ftruncate(file, 0)
        os.pwrite(file, image, 0)
        signal.setitimer(signal.ITIMER_PROF, CASE_TIME)
        begin = time.process_time()
        try:
            with SquashfsImage(file) as opened:
                examine(opened)
        except SquashfsError:
            pass
        slowest = max(slowest, (time.process_time() - begin, number))
    signal.setitimer(signal.ITIMER_PROF, 0)
    return slowest


def main() -> None:
    """Run; a case that fails leaves with a traceback, or by a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first case's number: to see one again")
    parser.add_argument("--at", type=int, help="descriptor to write the number of the current case to")
    parser.add_argument("--unlimited", action="store_true", help="memory as there is: sanitizers want much")
    asked = parser.parse_args()
    images = [path.read_bytes() for path in asked.images]
    if not asked.unlimited:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    slowest, number = campaign(images, asked.seed, range(asked.first, asked.first + asked.count), asked.at)
    # Not ru_maxrss, which begins with what the process that started this one had.
    resident = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) << 10
    print(f"{asked.count} cases, slowest {slowest:.3f} s (case {number}), resident {resident >> 20} MiB")
    if resident > RESIDENT and not asked.unlimited:
        sys.exit(f"used {resident} bytes of memory")


if __name__ == "__main__":
    main()
