"""Trees read as they stand."""

import os
from pathlib import Path

import pytest

from layerfs.errors import Corrupt
from layerfs.oci.view import RawView
from layerfs.union.layers import DirTree
from tests.oci.tars import END, apply, directory, file, pax, symlink


def test_marks_are_seen_and_nothing_is_followed(scratch: Path) -> None:
    apply(directory(b"d") + file(b"d/f", b"1") + symlink(b"s", b"d") + END, scratch / "t")
    os.mknod(scratch / "t/w", 0o20000, 0)
    os.setxattr(scratch / "t/d", "user.overlay.opaque", b"y")
    with RawView(DirTree(bytes(scratch / "t"), 0)) as view:
        assert sorted(view.names(b"")) == [b"d", b"s", b"w"]
        assert view.look(b"s/f") is None
        assert view.look(b"d/f/g") is None
        assert view.names(b"s") == []
        white, opaque, target = view.look(b"w"), view.look(b"d"), view.look(b"s")
        assert white is not None and white.is_whiteout
        assert opaque is not None and opaque.mark(b"opaque") == b"y"
        assert target is not None and target.member.target == b"d"
        assert b"".join(view.data(b"d/f")) == b"1"
        with pytest.raises(Corrupt):
            list(view.data(b"w"))


def test_deep_trees_need_few_descriptors(scratch: Path) -> None:
    deep = b"/".join([b"d"] * 500)
    apply(pax({b"path": deep + b"/f"}) + file(b"f", b"deep") + END, scratch / "t")
    with RawView(DirTree(bytes(scratch / "t"), 0)) as view:
        assert b"".join(view.data(deep + b"/f")) == b"deep"
        assert len(os.listdir("/proc/self/fd")) < 200
