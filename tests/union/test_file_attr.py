"""Birth times and inode flags of the union's objects, wherever they are."""

import errno
import os
import struct
from pathlib import Path

import pytest

from layerfs.sys import file_attr
from layerfs.sys.file_attr import FSGETXATTR, GETFLAGS, IMMUTABLE, NOATIME, SETFLAGS
from tests.oracle.trees import directory, file, symlink
from tests.union.box import Box


def born(path: bytes) -> int | None:
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        return file_attr.birth_time(fd)
    finally:
        os.close(fd)


def test_each_object_was_born_when_its_topmost_share_was(scratch: Path) -> None:
    layer = {b"f": file(b"x"), b"d": directory(), b"l": symlink(b"f")}
    with Box(scratch, layer) as box:
        for name in (b"f", b"d", b"l"):
            node, _ = box.union.lookup(1, name)
            box.union.remember(node)
            assert box.union.birth_time(node.ino) == born(box.layer(1) + b"/" + name) is not None
            if name == b"f":
                box.union.open_file(node.ino, os.O_RDWR)
                assert box.union.birth_time(node.ino) == born(box.upper + b"/f")
                box.union.unlink(1, b"f")
                assert box.union.birth_time(node.ino) is not None
                box.union.release(node.ino)
            if name == b"d":
                box.union.rmdir(1, b"d")
                box.union.birth_time(node.ino)
            box.union.forget(node.ino, 1)
        assert box.union.birth_time(1) == born(box.upper)


def test_flags_are_changed_on_a_copy_and_protection_is_refused(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"x"), b"d": directory(), b"p": symlink(b"f")}) as box:
        for name in (b"f", b"d"):
            node, _ = box.union.lookup(1, name)
            box.union.remember(node)
            if name == b"f":
                box.union.open_file(node.ino, os.O_RDONLY)
            (before,) = struct.unpack("=I", box.union.flags(node.ino, GETFLAGS))
            box.union.set_flags(node.ino, SETFLAGS, struct.pack("=I", before | NOATIME))
            assert struct.unpack("=I", box.union.flags(node.ino, GETFLAGS)) == (before | NOATIME,)
            assert os.path.exists(box.upper + b"/" + name)
            assert len(box.union.flags(node.ino, FSGETXATTR)) == 28
            with pytest.raises(OSError) as caught:
                box.union.set_flags(node.ino, SETFLAGS, struct.pack("=I", before | IMMUTABLE))
            assert caught.value.errno == errno.EOPNOTSUPP
            box.union.release(node.ino)
            box.union.forget(node.ino, 1)
        node, _ = box.union.lookup(1, b"p")
        with pytest.raises(OSError) as caught:
            box.union.flags(node.ino, GETFLAGS)
        assert caught.value.errno == errno.ENOTTY
        box.union.drop(node)
