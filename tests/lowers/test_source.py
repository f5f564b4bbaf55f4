"""An image as a source: what it says of names, and what it keeps."""

import gc
import os
from contextlib import closing
from pathlib import Path

import pytest

from tests.lowers.packing import lower_of, pack
from tests.pysquashfs.answering import Answering


def test_names_have_the_references_by_which_the_image_answers(tree: Path) -> None:
    (tree / "d").mkdir()
    (tree / "d/a").write_bytes(b"a")
    (tree / "b").symlink_to("c")
    with closing(lower_of(pack(tree))) as lower:
        source, root = lower.source(), lower.root()
        answering = Answering(lower.image)
        names = source.names(root)
        assert set(names) == {b"d", b"b"}
        for name, ref in names.items():
            assert answering.stat(ref) == (False, lower.lstat(root, name).st_ino)
        handle = lower.open_dir(root, b"d")
        assert answering.stat(source.directory(handle)) == (False, lower.stat_dir(handle).st_ino)
        assert set(source.names(handle)) == {b"a"}
        lower.close_dir(handle)


def test_what_it_keeps_is_let_go_with_the_tree(tree: Path) -> None:
    """The image's descriptor stayed open until the collector came by: the tree and its source knew each other."""
    lower = lower_of(pack(tree))
    before = len(os.listdir("/proc/self/fd"))
    gc.disable()
    try:
        lower.source()
        lower.close()
        assert len(os.listdir("/proc/self/fd")) < before
    finally:
        gc.enable()


def test_inodes_of_a_large_directory_are_not_kept_once_it_is_handed_over(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerfs.lowers.source.LARGE", 3)
    (tree / "few").mkdir()
    names = [b"%d" % number for number in range(4)]
    for name in names:
        (tree / os.fsdecode(name)).touch()
    (tree / "few/a").touch()
    with closing(lower_of(pack(tree))) as lower:
        root = lower.root()
        few = lower.open_dir(root, b"few")
        assert set(lower.source().names(root)) == {b"few", *names}
        lower.source().names(few)
        assert root not in lower._listings and few in lower._listings
        assert [lower.lstat(root, name).st_size for name in names] == [0] * 4
        lower.close_dir(few)
