"""Point 7: extended attributes of every name space, also on symlinks; marks of an inner overlay apart from our own."""

import errno
import os
import stat
import subprocess

import pytest

from tests.host import BIN
from tests.oracle.trees import Kind, Node, directory, file, symlink
from tests.semantics.mounted import Mounted, error_of, root_only
from tests.waiting import PATIENCE

MARKS = ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque", "user.overlay.whiteout"]
MARKS += ["user.fuseoverlayfs.opaque", "trusted.overlay.own", "user.overlay.metacopy"]


@pytest.mark.parametrize("name", ["user.x", pytest.param("trusted.x", id="trusted"), "security.x"])
def test_set_get_list_remove(union: Mounted, name: str) -> None:
    if not union.is_root and not name.startswith("user."):
        assert name  # a person may set user.* only: the other name spaces are root's
        name = "user.other"
    union.mount({b"low": file(), b"d": directory()})
    os.mknod(union / b"up")
    for path in (union / b"low", union / b"d", union / b"up", union.root):
        assert error_of(os.getxattr, path, name) == errno.ENODATA
        assert error_of(os.removexattr, path, name) == errno.ENODATA
        assert error_of(os.setxattr, path, name, b"1", os.XATTR_REPLACE) == errno.ENODATA
        os.setxattr(path, name, b"1", os.XATTR_CREATE)
        assert error_of(os.setxattr, path, name, b"2", os.XATTR_CREATE) == errno.EEXIST
        os.setxattr(path, name, b"", os.XATTR_REPLACE)
        assert os.getxattr(path, name) == b""
        os.setxattr(path, name, b"\0binary\xff")
    union.remount()
    for path in (union / b"low", union / b"d", union / b"up", union.root):
        assert os.listxattr(path) == [name] and os.getxattr(path, name) == b"\0binary\xff"
        os.removexattr(path, name)
        assert os.listxattr(path) == []


@root_only
def test_xattrs_of_symlinks_and_special_files(union: Mounted) -> None:
    """Setting a trusted.* one on a symlink deadlocks fuse-overlayfs 1.10."""
    union.mount({b"l": symlink(b"nowhere"), b"p": Node(Kind.FIFO), b"c": Node(Kind.CHAR, rdev=(1, 3))})
    os.symlink(b"x", union / b"new")
    for name in (b"l", b"p", b"c", b"new"):
        os.setxattr(union / name, "trusted.t", b"1", follow_symlinks=False)
        assert error_of(os.setxattr, union / name, "user.u", b"1", follow_symlinks=False) == errno.EPERM
        assert os.listxattr(union / name, follow_symlinks=False) == ["trusted.t"]
    union.remount()
    for name in (b"l", b"p", b"c", b"new"):
        assert os.getxattr(union / name, "trusted.t", follow_symlinks=False) == b"1"
        os.removexattr(union / name, "trusted.t", follow_symlinks=False)
        assert os.listxattr(union / name, follow_symlinks=False) == []


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_that_is_set_is_an_inner_overlays_and_hides_nothing(union: Mounted, mark: str) -> None:
    """It was EPERM: containers in containers, and container storage copied with its xattrs, could not be."""
    if mark.startswith("trusted.") and not union.is_root:
        mark = "user.overlay.nlink"
    union.mount({b"d/x": file()}, {b"d/y": file()})
    os.chmod(union / b"d", 0o700)
    for path in (union / b"d", union / b"d/x", union.root):
        assert error_of(os.getxattr, path, mark) == errno.ENODATA
        assert error_of(os.removexattr, path, mark) == errno.ENODATA
        assert os.listxattr(path) == []
        os.setxattr(path, mark, b"y")
    os.rename(union / b"d", union / b"moved")
    for _ in range(2):
        assert union.names(b"moved") == [b"x", b"y"]
        for path in (union / b"moved", union / b"moved/x", union.root):
            assert os.listxattr(path) == [mark] and os.getxattr(path, mark) == b"y"
        union.remount()
    os.removexattr(union / b"moved", mark)
    assert os.listxattr(union / b"moved") == []


def test_a_whiteout_that_is_made_is_an_inner_overlays_and_hides_nothing(union: Mounted) -> None:
    union.mount({b"d/x": file(b"x")})
    os.mknod(union / b"d/white", stat.S_IFCHR | 0o600, 0)
    os.link(union / b"d/white", union / b"d/y")
    os.rename(union / b"d/white", union / b"d/x")
    for _ in range(2):
        assert union.names(b"d") == [b"x", b"y"]
        for name in (b"d/x", b"d/y"):
            st = os.lstat(union / name)
            assert (stat.S_ISCHR(st.st_mode), st.st_rdev, st.st_nlink) == (True, 0, 2)
        os.chmod(union / b"d/y", 0o644)
        union.remount()
    os.unlink(union / b"d/x")
    assert union.names(b"d") == [b"y"]


def test_sizes_and_limits(union: Mounted) -> None:
    union.mount({b"f": file(xattrs=(("user.a", b"12345"),))})
    f = union / b"f"
    assert error_of(os.setxattr, f, "user." + "n" * 251, b"") == errno.ERANGE
    assert error_of(os.setxattr, f, "nonsense", b"") == errno.EOPNOTSUPP
    assert error_of(os.setxattr, f, "user.big", b"x" * 70_000) == errno.E2BIG
    assert error_of(os.setxattr, f, "user.many", b"x" * 60_000) in (errno.ENOSPC, errno.E2BIG)  # ext4's own limit
    os.setxattr(f, "user." + "n" * 250, b"1")
    assert sorted(os.listxattr(f)) == ["user.a", "user." + "n" * 250]
    libc_getxattr(f)


def libc_getxattr(path: bytes) -> None:
    """getxattr(2) and listxattr(2) with buffers too small, which os.getxattr hides by retrying."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(10)
    assert libc.getxattr(path, b"user.a", None, 0) == 5
    assert libc.getxattr(path, b"user.a", buffer, 5) == 5 and buffer.raw[:5] == b"12345"
    assert libc.getxattr(path, b"user.a", buffer, 4) == -1 and ctypes.get_errno() == errno.ERANGE
    assert libc.listxattr(path, buffer, 3) == -1 and ctypes.get_errno() == errno.ERANGE
    assert libc.listxattr(path, None, 0) == len("user.a\0user.") + 251


def test_xattrs_survive_copy_up_and_rename(union: Mounted) -> None:
    union.mount({b"d": directory(xattrs=(("user.d", b"d"),)), b"d/f": file(b"1", xattrs=(("user.f", b"f"),))})
    os.rename(union / b"d/f", union / b"f2")
    os.rename(union / b"d", union / b"d2")
    union.remount()
    assert os.getxattr(union / b"f2", "user.f") == b"f" and os.getxattr(union / b"d2", "user.d") == b"d"


@root_only
def test_an_overlay_on_an_overlay_renames_what_its_lower_has(union: Mounted) -> None:
    """Each rename was EPERM: the outer mount takes neither RENAME_WHITEOUT nor names that begin with `.wh.`."""
    union.mount({b"l/file": file(b"1"), b"l/d/x": file(b"x"), b"u": directory(), b"w": directory(), b"m": directory()})
    inner = union / b"m"
    words = [union / b"l", inner, b"--upper", union / b"u", b"--work", union / b"w"]
    for repeated in (False, True):
        subprocess.run([BIN / "layerfs", "mount", "--driver=fuse", *words], check=True, timeout=PATIENCE)
        try:
            if not repeated:
                os.rename(inner + b"/file", inner + b"/moved")
                os.rename(inner + b"/d", inner + b"/e")
                os.mkdir(inner + b"/d")
            assert sorted(os.listdir(inner)) == [b"d", b"e", b"moved"]
            assert os.listdir(inner + b"/e") == [b"x"] and os.listdir(inner + b"/d") == []
        finally:
            subprocess.run([BIN / "layerfs", "umount", inner], check=True, timeout=PATIENCE)
