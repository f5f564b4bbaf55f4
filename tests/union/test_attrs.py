"""Attributes and xattrs of what is named, only open, or removed."""

import errno
import os
import stat
from pathlib import Path

import pytest

from layerfs.union.attrs import Change
from layerfs.union.options import UnionOptions
from tests.oracle.trees import directory, file, symlink
from tests.union.box import Box

ACL = b"system.posix_acl_access"


def test_what_is_asked_for_is_changed_and_nothing_else(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"data", mode=0o640, uid=3, gid=4, mtime=5)}) as box:
        st = box.change(b"f", Change(uid=7))
        assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode), st.st_size) == (7, 4, 0o640, 4)
        st = box.change(b"f", Change(atime_ns=9))
        assert (st.st_atime_ns, st.st_mtime_ns) == (9, box.stat(b"f").st_mtime_ns)
        assert box.change(b"f", Change(mtime_ns=-1)).st_mtime_ns == -1


def test_a_directory_has_no_size_and_a_symlink_no_mode(scratch: Path) -> None:
    with Box(scratch, {b"d": directory(), b"s": symlink(b"x")}) as box:
        for path, change, code in ((b"d", Change(size=0), errno.EISDIR), (b"s", Change(mode=0o600), errno.EOPNOTSUPP)):
            with pytest.raises(OSError) as caught:
                box.change(path, change)
            assert caught.value.errno == code


def test_a_removed_directory_can_still_be_changed_by_who_is_in_it(scratch: Path) -> None:
    with Box(scratch, {}, upper={b"d": directory(0o755)}) as box, box.node(b"d") as node:
        box.rmdir(b"d")
        st = box.union.set_attributes(node.ino, Change(mode=0o700))
        assert (stat.S_IMODE(st.st_mode), st.st_nlink) == (0o700, 0)


def test_without_acls_there_are_none(scratch: Path) -> None:
    with Box(scratch, {b"f": file()}, options=UnionOptions(acl=False)) as box, box.node(b"f") as node:
        for call in (
            lambda: box.union.get_xattr(node.ino, ACL),
            lambda: box.union.set_xattr(node.ino, ACL, b"\2\0\0\0"),
        ):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == errno.EOPNOTSUPP


def test_noacl_gives_new_files_no_default_acl(scratch: Path) -> None:
    """The directory on disk passed its own on, and the umask did not count."""
    acl = bytes.fromhex("0200000001000700ffffffff04000700ffffffff20000700ffffffff")
    with Box(scratch, {}, options=UnionOptions(acl=False)) as box:
        os.setxattr(box.upper, "system.posix_acl_default", acl)
        box.create(b"f", mode=0o666)
        box.mkdir(b"d", 0o777)
        assert [stat.S_IMODE(box.stat(name).st_mode) for name in (b"f", b"d")] == [0o644, 0o755]
        assert os.listxattr(os.path.join(box.upper, b"d")) == []


def test_removing_what_is_absent_copies_nothing(scratch: Path) -> None:
    with Box(scratch, {b"f": file()}) as box, box.node(b"f") as node:
        with pytest.raises(OSError) as caught:
            box.union.remove_xattr(node.ino, b"user.absent")
        assert caught.value.errno == errno.ENODATA
        box.union.remove_xattr(node.ino, ACL)  # as the kernel: it sets an empty one
        assert os.listdir(box.upper) == []
