"""What flags a copy-up owes to its original; copies on a mount are in tests/semantics/test_raw_inodes.py."""

import os
import struct
from pathlib import Path

from layerfs.sys import file_attr
from layerfs.sys.file_attr import GETFLAGS, IMMUTABLE, NOATIME, SETFLAGS
from layerfs.union.attrs import Change
from tests.oracle.trees import file
from tests.union.box import Box

_WORD = struct.Struct("=I")


def change(path: bytes, on: int, off: int = 0) -> None:
    fd = os.open(path, os.O_RDONLY)
    (flags,) = _WORD.unpack(file_attr.read(fd, GETFLAGS))
    file_attr.write(fd, SETFLAGS, _WORD.pack(flags & ~off | on))
    os.close(fd)


def test_an_immutable_file_is_noted_and_what_can_be_set_is_set(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"x")}) as box:
        below = box.layer(1) + b"/f"
        change(below, NOATIME | IMMUTABLE)
        try:
            node, _ = box.union.lookup(1, b"f")
            box.union.remember(node)
            box.union.open_file(node.ino, os.O_RDONLY)
            box.union.set_attributes(node.ino, Change(mode=0o600))
            (shown,) = _WORD.unpack(box.union.flags(node.ino, GETFLAGS))
            assert shown & (NOATIME | IMMUTABLE) == NOATIME | IMMUTABLE
            assert os.getxattr(box.upper + b"/f", "trusted.overlay.protattr") == b"i"
            assert box.union.list_xattrs(node.ino) == []
            box.union.release(node.ino)
            box.union.forget(node.ino, 1)
        finally:
            change(below, 0, IMMUTABLE)
