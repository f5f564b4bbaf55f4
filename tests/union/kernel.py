"""Kernel overlayfs beside the union: what it reads, and uppers that it wrote."""

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.union.box import Tree
from tests.waiting import PATIENCE


@contextmanager
def overlay(
    place: Path, lowers: list[bytes], upper: bytes | None = None, work: bytes | None = None, options: str = ""
) -> Iterator[bytes]:
    """Mount kernel overlayfs for the length of a `with`."""
    merged = place / "merged"
    merged.mkdir(exist_ok=True)
    words = ["lowerdir=" + ":".join(map(os.fsdecode, lowers))]
    if upper is not None and work is not None:
        words += [f"upperdir={os.fsdecode(upper)}", f"workdir={os.fsdecode(work)}"]
    stack = ",".join([*words, *([options] if options else [])])
    subprocess.run(["mount", "-i", "-t", "overlay", "overlay", "-o", stack, str(merged)], check=True, timeout=PATIENCE)
    try:
        yield os.fsencode(merged)
    finally:
        subprocess.run(["umount", str(merged)], check=True, timeout=PATIENCE)


def tree_of(root: bytes) -> Tree:
    """What is below a directory, as `Box.tree` shows it."""
    found: Tree = {}
    for above, names, files in os.walk(root):
        for name in (*names, *files):
            full = os.path.join(above, name)
            path = os.path.relpath(full, root)
            if os.path.islink(full):
                found[path] = ("link", os.readlink(full))
            elif os.path.isdir(full):
                found[path] = "dir"
            elif os.path.isfile(full):
                with open(full, "rb") as source:
                    found[path] = source.read()
            else:
                st = os.lstat(full)
                found[path] = (stat.filemode(st.st_mode)[0], st.st_rdev)
    return found
