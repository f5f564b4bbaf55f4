"""Counting a tree that somebody else filled."""

import os
from pathlib import Path

from layerfs.sys.scan import KEPT, count_tree


def test_counts_bytes_and_inodes_once_and_follows_nothing(scratch: Path) -> None:
    tree = scratch / "tree"
    (tree / "sub").mkdir(parents=True)
    (scratch / "outside").write_bytes(b"x" * (1 << 20))
    (tree / "sub/file").write_bytes(b"x" * 10_000)
    os.link(tree / "sub/file", tree / "again")
    (tree / "link").symlink_to("../outside")
    (tree / "up").symlink_to("..")
    os.mkfifo(tree / "fifo")
    found = count_tree(os.fsencode(tree))
    assert found.inodes == 6
    assert 10_000 <= found.size < 100_000


def test_counts_a_tree_deeper_than_what_is_kept_open(scratch: Path) -> None:
    here = os.open(scratch, os.O_PATH)
    depth = KEPT * 20
    for _ in range(depth):
        for name in ("d", "e"):
            os.mkdir(name, dir_fd=here)
        below = os.open("d", os.O_PATH, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    before = len(os.listdir("/proc/self/fd"))
    assert count_tree(os.fsencode(scratch)).inodes == 1 + 2 * depth
    assert len(os.listdir("/proc/self/fd")) == before
    from layerfs.sys import dirs

    dirs.remove(-100, os.fsencode(scratch / "d"))
