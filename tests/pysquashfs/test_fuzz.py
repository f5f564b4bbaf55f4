"""Damaged images never crash the process that reads them, hang it, or make it use much memory."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests import sanitized
from tests.host import PROJECT, require
from tests.pysquashfs.images import make_image, noise, prose
from tests.pysquashfs.side_by_side import MODULE

CASES = 500  # of each kind of image
SEED = 20261121
TIME = 120  # s, of one kind, which takes 2; whoever sleeps for ever is found by this
# Where nothing is compressed, what is damaged reaches whoever understands it and not only the decompressor.
IMAGES = {
    "plain": ("mksquashfs", "-noI", "-noD", "-noF", "-noX", "-b", "4K"),
    "plain tails": ("mksquashfs", "-noI", "-noD", "-noF", "-noX", "-always-use-fragments", "-b", "64K"),
    "gzip": ("mksquashfs", "-comp", "gzip", "-b", "4K"),
    "xz": ("mksquashfs", "-comp", "xz", "-b", "4K"),
    "lz4": ("mksquashfs", "-comp", "lz4", "-b", "4K"),
    "zstd": ("gensquashfs", "-c", "zstd", "-b", "4096", "-e"),
    "lzma": ("gensquashfs", "-c", "lzma", "-b", "4096"),
}


def small_tree(place: Path) -> Path:
    """A little of each kind, so that a change anywhere in the image is likely to matter."""
    (place / "a/b/c").mkdir(parents=True)
    (place / "many").mkdir()
    for number in range(400):  # 10 KiB of names: it has an index
        (place / f"many/a-name-of-some-length-{number:03}").symlink_to("x")
    for name, data in (("prose", prose(10_000)), ("noise", noise(9000)), ("little", b"little"), ("none", b"")):
        (place / "a" / name).write_bytes(data)
    with open(place / "a/hole", "wb") as file:
        file.write(prose(100))
        file.truncate(50_000)
    with open(place / "a/huge", "wb") as file:
        file.truncate(6 << 20)  # more blocks than are fetched at once
    os.link(place / "a/prose", place / "a/b/again")
    os.mkfifo(place / "a/b/fifo")
    for number in range(3):
        os.setxattr(place / "a/little", b"user.%d" % number, noise(200))
        os.setxattr(place / "a/noise", b"user.%d" % number, noise(200))
    os.setxattr(place / "a/b", b"user.directory", b"x")
    if os.geteuid() == 0:
        os.mknod(place / "a/b/device", 0o020600, os.makedev(1, 3))
        os.setxattr(place / "a/b/device", b"trusted.x", b"y")
    return place


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("user xattrs")
    return small_tree(tmp_path_factory.mktemp("fuzz") / "tree")


@pytest.mark.parametrize("kind", IMAGES)
def test_damaged_image_is_read_or_refused(kind: str, tree: Path, tmp_path: Path) -> None:
    tool, *options = IMAGES[kind]
    require(tool)
    image = make_image(tool, tree, tmp_path / "image", *options)
    with open(tmp_path / "at", "w+b") as at:
        command = [sys.executable, "-m", "tests.pysquashfs.fuzz", str(image), f"--seed={SEED}", f"--count={CASES}"]
        done = subprocess.run(
            [*command, f"--at={at.fileno()}"], cwd=PROJECT, pass_fds=[at.fileno()], capture_output=True, text=True,
            check=False, timeout=TIME,
        )  # fmt: skip
        number = struct.unpack("q", at.read(8).ljust(8, b"\xff"))[0]
    assert done.returncode == 0, f"case {number} of seed {SEED}: {done.returncode}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_threads_that_read_one_image_do_so_under_the_thread_sanitizer(kind: str, tree: Path, tmp_path: Path) -> None:
    tool, *options = IMAGES[kind]
    require(tool)
    image = make_image(tool, tree, tmp_path / "image", *options)
    module = sanitized.build(MODULE, sanitized.THREAD, tmp_path / "build")
    said = sanitized.run(sanitized.THREAD, "tests.pysquashfs.side_by_side", image, module)
    assert int(said.split()[0]) > 400
