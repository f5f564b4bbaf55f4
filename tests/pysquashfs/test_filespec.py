"""What is found in a directory for an image."""

import os
import shutil
from pathlib import Path

from layerfs.pysquashfs import (
    SquashfsImage,
    entries_of,
    write_image,
    write_tree,
)
from tests.host import require
from tests.pysquashfs.write_facts import run


def test_what_vanishes_while_a_tree_is_looked_at_is_left_out_and_told(scratch: Path) -> None:
    tree = scratch / "tree"
    for name in "abcde":
        (tree / name).mkdir(parents=True)
        (tree / name / "file").write_text(name)
    (tree / "f").symlink_to("a")
    told: list[tuple[bytes, str]] = []
    found = []
    for entry in entries_of(tree, on_changed=lambda *what: told.append(what)):
        found.append(entry.path)
        if entry.path == b"a":
            shutil.rmtree(tree / "b")
            shutil.rmtree(tree / "c")
            (tree / "c").symlink_to("/etc")
            (tree / "f").unlink()
    gone = "was gone when it was to be read: it is left out"
    assert [path for path, what in told if what == gone] == [b"b", b"c", b"f"]
    assert set(found) - {b"b", b"c"} == {b"", b"a", b"a/file", b"d", b"d/file", b"e", b"e/file"}


def test_attributes_that_squashfs_cannot_hold_are_left_out_and_told(scratch: Path) -> None:
    require("setfacl")
    tree = scratch / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"")
    os.setxattr(tree / "file", "user.kept", b"1")
    run("setfacl", "-m", "u:1234:r", tree / "file")
    dropped: list[tuple[bytes, bytes]] = []
    write_tree(tree, scratch / "image", on_dropped=lambda path, name: dropped.append((path, name)))
    assert dropped == [(b"file", b"system.posix_acl_access")]
    with SquashfsImage(scratch / "image") as image:
        ((_, inode),) = image.scan(image.root.ref)
        assert image.xattrs(inode.ref) == {b"user.kept": b"1"}


def test_directories_that_become_symlinks_are_left_out_and_their_files_empty(scratch: Path) -> None:
    """Root packs a tree whose owner exchanges its directories for links to where only root may read."""
    tree, early = scratch / "tree", b"early/inner/file"
    told: list[tuple[bytes, str]] = []
    for top in ("tree/early", "tree/late", "secret"):
        (scratch / top / "inner").mkdir(parents=True)
        (scratch / top / "inner" / "file").write_text("secret" if top == "secret" else "own")

    def exchange(name: str) -> None:
        (tree / name).rename(scratch / name)
        (tree / name).symlink_to(scratch / "secret")

    found = []
    for entry in entries_of(tree, on_changed=lambda *what: told.append(what)):
        found.append(entry)
        if entry.path == b"late":
            exchange("late")
    exchange("early")
    write_image(scratch / "image", found, on_changed=lambda *what: told.append(what))
    assert [entry.path for entry in found] == [b"", b"early", b"early/inner", early, b"late"]
    left_out, empty = "was gone when it was to be read: it is left out", "was gone when it was to be read: it is empty"
    assert told == [(b"late", left_out), (early, empty)]
    with SquashfsImage(scratch / "image") as image:
        assert image.lookup(early).size == 0
