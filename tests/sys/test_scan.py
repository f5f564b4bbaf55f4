"""Counting a tree that somebody else filled."""

import os
import shutil
import subprocess
from pathlib import Path

from layerfs.sys.scan import KEPT, count_tree, thaw_tree
from tests.host import require


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


def test_what_was_made_immutable_can_be_removed_once_it_is_thawed(scratch: Path) -> None:
    require("root", "chattr")
    tree = scratch / "tree"
    (tree / "below/deep").mkdir(parents=True)
    (tree / "below/file").write_text("x")
    os.mkfifo(tree / "fifo")
    (scratch / "outside").write_text("x")
    (tree / "link").symlink_to(scratch / "outside")
    frozen = [tree / "below/deep", tree / "below/file", tree / "below", tree, scratch / "outside"]
    done = subprocess.run(["chattr", "+i", *frozen], check=False)  # not every filesystem has it
    try:
        thaw_tree(os.fsencode(tree))
        shutil.rmtree(tree)
        if done.returncode == 0:
            assert not os.access(scratch / "outside", os.W_OK)
    finally:
        thaw_tree(os.fsencode(scratch))
