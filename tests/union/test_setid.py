"""Which bits a change takes, by whom, and that the answer is asked for again when it may differ."""

import os
import stat
from pathlib import Path

import pytest

from layerfs.union.attrs import Change
from layerfs.union.setid import Who, killed
from tests.oracle.trees import file
from tests.union.box import Box


@pytest.mark.parametrize(
    ("mode", "who", "bits"),
    [
        (0o6777, Who.PRIVILEGED, 0),
        (0o6777, Who.MEMBER, 0o6000),
        (0o6767, Who.MEMBER, 0o4000),
        (0o6767, Who.OUTSIDER, 0o6000),
        (0o755, Who.OUTSIDER, 0),
    ],
)
def test_bits_that_a_write_takes(mode: int, who: Who, bits: int) -> None:
    assert killed(stat.S_IFREG | mode, who) == bits
    assert killed(stat.S_IFDIR | mode, who) == 0


def test_a_members_write_leaves_what_an_outsiders_takes(scratch: Path) -> None:
    """The answer "none set" was remembered after a member's write, though setgid was."""
    with Box(scratch, {b"f": file(b"f", mode=0o2767)}) as box, box.opened(b"f", os.O_RDWR) as node:
        box.union.drop_sxid(node.ino, Who.MEMBER)
        assert stat.S_IMODE(box.stat(b"f").st_mode) == 0o2767
        box.union.drop_sxid(node.ino, Who.OUTSIDER)
        assert stat.S_IMODE(box.stat(b"f").st_mode) == 0o767
        box.union.set_attributes(node.ino, Change(mode=0o4755))
        box.union.drop_sxid(node.ino, Who.MEMBER)
        assert stat.S_IMODE(box.stat(b"f").st_mode) == 0o755


@pytest.mark.parametrize("lost", [stat.S_ISUID, stat.S_ISGID, stat.S_ISUID | stat.S_ISGID])
def test_a_file_that_the_host_has_taken_bits_of_is_the_same_file(scratch: Path, lost: int) -> None:
    """As a truncate or a write by a server without CAP_FSETID does: ftruncate(2) said ESTALE."""
    with Box(scratch, {b"f": file(b"f", mode=0o6777)}) as box, box.opened(b"f", os.O_RDWR) as node:
        box.union.set_attributes(node.ino, Change(mode=0o6777))
        os.chmod(os.path.join(box.upper, b"f"), 0o6777 & ~lost)
        box.union.set_attributes(node.ino, Change(mtime_ns=1))
        assert stat.S_IMODE(box.stat(b"f").st_mode) == 0o6777 & ~lost
        os.chmod(os.path.join(box.upper, b"f"), 0o7777)
        with pytest.raises(OSError, match="Stale"):
            box.union.set_attributes(node.ino, Change(mtime_ns=2))
