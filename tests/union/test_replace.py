"""Uppers that lack something: whatever they refuse, the merged tree is the same, now and after a remount."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from layerfs.sys import dirs, libc, target
from layerfs.sys.dirs import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT
from layerfs.union import replace
from layerfs.union.attrs import Change
from layerfs.union.layers import DirTree
from tests.oracle.trees import WHITEOUT, Layer, directory, file, symlink
from tests.union.box import Box, marks_of

LONG = b"n" * 255  # no `.wh.` file can stand beside it
LOWER: Layer = {
    b"a/f": file(b"af"), b"b/c/f": file(b"bcf"), b"d": directory(), b"d/x": file(b"x"), b"f": file(b"f", mode=0o4755),
    b"s": symlink(b"f"), LONG: file(b"long"), b"l/" + LONG: file(b"long"), b"m/low": file(b"low"), b"e/deep/f": file(),
    b"x": file(b"x", xattrs=(("user.one", b"1"),)),
}  # fmt: skip
UPPER: Layer = {b"m/up": file(b"up"), b"gone": WHITEOUT, b"u/v": file(b"v")}

REAL: dict[str, Callable[..., object]] = {"setxattr": os.setxattr, "mknod": os.mknod, "call": libc.call}


def _refuse(code: int, *_: object, **__: object) -> None:
    raise OSError(code, os.strerror(code))


def _without_flags(flags: int, code: int, call: str, *arguments: object) -> None:
    if call == "renameat2" and isinstance(arguments[-1], int) and arguments[-1] & flags:
        raise OSError(code, os.strerror(code))
    REAL["call"](call, *arguments)


def _without_xattrs(prefixes: tuple[str, ...], code: int, path: object, name: str, *rest: object, **kw: object) -> None:
    if name.startswith(prefixes):
        raise OSError(code, os.strerror(code))
    REAL["setxattr"](path, name, *rest, **kw)


def _without_devices(path: bytes, mode: int = 0o600, device: int = 0, *, dir_fd: int | None = None) -> None:
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise PermissionError(errno.EPERM, "no devices")
    REAL["mknod"](path, mode, device, dir_fd=dir_fd)


ALL = RENAME_EXCHANGE | RENAME_WHITEOUT | RENAME_NOREPLACE
Lack = tuple[object, str, Callable[..., object]]
LACKS: dict[str, list[Lack]] = {
    "nothing": [],
    "no flags of rename": [(libc, "call", partial(_without_flags, ALL, errno.EINVAL))],
    "no exchange": [(libc, "call", partial(_without_flags, RENAME_EXCHANGE, errno.EINVAL))],
    "no rename that leaves a whiteout": [(libc, "call", partial(_without_flags, RENAME_WHITEOUT, errno.EOPNOTSUPP))],
    "renameat2 unknown": [(libc, "call", partial(_without_flags, ALL, errno.ENOSYS))],
    "no xattrs": [(os, "setxattr", partial(_refuse, errno.EOPNOTSUPP))],
    "no trusted xattrs": [(os, "setxattr", partial(_without_xattrs, ("trusted.", "security."), errno.EPERM))],
    "no user xattrs": [(os, "setxattr", partial(_without_xattrs, ("user.",), errno.EOPNOTSUPP))],
    "no devices": [(os, "mknod", _without_devices)],
    "no links": [(os, "link", partial(_refuse, errno.EPERM))],
    "links unknown": [(os, "link", partial(_refuse, errno.ENOSYS))],
}
# RENAME_WHITEOUT is EINVAL there, and no name may begin with `.wh.`.
LACKS["inside a mount of layerfs"] = [
    (libc, "call", partial(_without_flags, RENAME_WHITEOUT, errno.EINVAL)),
    (replace, "make_mark_file", partial(_refuse, errno.EPERM)),
]
LACKS["inside a mount of fuse-overlayfs"] = LACKS["no flags of rename"] + [
    (replace, "make_mark_file", partial(_refuse, errno.EINVAL))
]
LACKS["no flags, no devices"] = LACKS["no flags of rename"] + LACKS["no devices"]
LACKS["no flags, no xattrs"] = LACKS["no flags of rename"] + LACKS["no xattrs"]
LACKS["nearly nothing"] = LACKS["no flags, no devices"] + LACKS["no xattrs"] + LACKS["no links"]


@contextmanager
def lacking(what: str) -> Iterator[None]:
    """Let the filesystem of the upper refuse something."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, function in LACKS[what]:
            patch.setattr(owner, name, function)
        yield


def _rm_r(box: Box, path: bytes) -> None:
    for name in box.names(path):
        below = path + b"/" + name
        with suppress(NotADirectoryError):
            box.rmdir(below) if box.names(below) == [] else _rm_r(box, below)
            continue
        box.unlink(below)
    if box.exists(path):
        box.rmdir(path)


def _again(box: Box, *paths: bytes) -> None:
    """Remove directories and make them again."""
    for path in paths:
        _rm_r(box, path)
        box.mkdir(path)
        box.create(path + b"/own", b"own")


Step = Callable[[Box], object]
OPERATIONS: dict[str, list[Step]] = {
    "rm -r of a lower directory": [lambda box: _rm_r(box, b"a")],
    "rm -r of a deep lower directory": [lambda box: _rm_r(box, b"b")],
    "rm -r of a merged directory": [lambda box: _rm_r(box, b"m")],
    "rm -r of an upper directory": [lambda box: _rm_r(box, b"u")],
    "rm -r with a long name": [lambda box: _rm_r(box, b"l")],
    "removed and made again": [lambda box: _again(box, b"a", b"m", b"u")],
    "removed, made again, removed": [lambda box: _again(box, b"a"), lambda box: _rm_r(box, b"a")],
    "unlink of a lower file": [lambda box: box.unlink(b"f")],
    "unlink and create": [lambda box: box.unlink(b"f"), lambda box: box.create(b"f", b"new")],
    "create over a whiteout": [lambda box: box.create(b"gone", b"new")],
    "directory over a whiteout": [lambda box: box.mkdir(b"gone")],
    "symlink over a whiteout": [lambda box: box.symlink(b"f", b"gone")],
    "write": [lambda box: box.write(b"f", b"F")],
    "chmod": [lambda box: box.change(b"d/x", Change(mode=0o600)), lambda box: box.change(b"e", Change(mode=0o700))],
    "rename of a lower file": [lambda box: box.rename(b"f", b"d/new")],
    "rename over a lower file": [lambda box: box.rename(b"u/v", b"f")],
    "rename of a directory with a long name in it": [lambda box: box.rename(b"l", b"moved")],
    "rename of a symlink": [lambda box: box.rename(b"s", b"t")],
    "rename of a lower directory": [lambda box: box.rename(b"e", b"moved")],
    "rename of a merged directory": [lambda box: box.rename(b"m", b"moved")],
    "rename of an upper directory": [lambda box: box.rename(b"u", b"moved")],
    "rename of a directory over a whiteout": [lambda box: box.rename(b"u", b"gone")],
    "rename of a lower directory over a whiteout": [lambda box: box.rename(b"e", b"gone")],
    "rename over a new directory": [
        lambda box: _rm_r(box, b"a"), lambda box: box.mkdir(b"a"), lambda box: box.rename(b"e", b"a"),
    ],
    "rename over a directory that was emptied": [lambda box: box.unlink(b"a/f"), lambda box: box.rename(b"e", b"a")],
}  # fmt: skip


def _is_possible(lack: str, operation: str) -> bool:
    """Without devices and xattrs nothing can hide a name that is too long for a `.wh.` file."""
    return lack != "nearly nothing" or "long name" not in operation


@pytest.mark.parametrize(
    ("lack", "operation"), [(lack, each) for lack in LACKS for each in OPERATIONS if _is_possible(lack, each)]
)
def test_every_operation_does_the_same_on_every_upper(scratch: Path, lack: str, operation: str) -> None:
    """Removing a lower directory was EINVAL on an upper without RENAME_EXCHANGE."""
    trees = []
    for what in ("nothing", lack):
        place = scratch / what.replace(" ", "-").replace(",", "")
        place.mkdir(exist_ok=True)
        if (place / "upper").exists():
            continue
        with Box(place, LOWER, upper=UPPER) as box, lacking(what):
            box.again()
            for step in OPERATIONS[operation]:
                step(box)
            trees.append(box.tree())
            trees.append(box.again().tree())
            assert box.is_clean()
    assert all(tree == trees[0] for tree in trees)


@pytest.mark.parametrize("lack", [name for name in LACKS if "no flags" in name or "exchange" in name])
def test_no_mark_that_hides_for_a_moment_stays(scratch: Path, lack: str) -> None:
    with Box(scratch, LOWER, upper=UPPER) as box, lacking(lack):
        devices = box.again().marks.devices
        _rm_r(box, b"a")
        box.mkdir(b"gone")
        box.rename(b"e", b"b/e")
        found = {name for name, mark in marks_of(box.upper).items() if mark == "file" and b".opq" not in name}
        assert found == (set() if devices else {b".wh.a", b".wh.e"})


def test_a_crash_while_a_name_is_vacant_hides_the_lowers(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory is out of the way, and its whiteout not yet there."""
    with Box(scratch, LOWER) as box, lacking("no exchange"):
        box.unlink(b"a/f")
        with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="crash"):
            patch.setattr(os, "rename", _crash(os.rename))
            box.rmdir(b"a")
        assert not box.again().exists(b"a")


def _crash(real: Callable[..., None]) -> Callable[..., None]:
    def rename(name: bytes, new: bytes, **where: int) -> None:
        if new == b"a":
            raise OSError(errno.EIO, "crash")
        real(name, new, **where)

    return rename


def test_an_access_acl_that_the_upper_cannot_keep_gives_nobody_more(scratch: Path) -> None:
    """A copy-up failed with EOPNOTSUPP; without its ACL the file's mask would become its group's right."""
    acl = bytes.fromhex("0200000001000700ffffffff020006000100000004000000ffffffff10000600ffffffff20000000ffffffff")
    with Box(scratch, {b"f": file(b"f")}) as box:
        path = os.path.join(box.layer(1), b"f")
        os.setxattr(path, "system.posix_acl_access", acl)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o760
        with lacking("no xattrs"):
            box.write(b"f", b"F")
        assert stat.S_IMODE(box.stat(b"f").st_mode) == 0o700
        assert target.listxattr(dirs.path_of(box.ov.fd(box.ov.root.parts.upper), b"f")) == []  # type: ignore[union-attr, arg-type]


def test_a_filesystem_that_loses_what_has_no_name(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A removed directory was asked for its attributes once more: ENOENT, as bindfs says, and the removal failed."""
    with Box(scratch, LOWER) as box, box.node(b"a") as node:
        box.unlink(b"a/f")
        real = DirTree.stat_dir

        def stat_dir(tree: DirTree, handle: int) -> os.stat_result:
            st = real(tree, handle)
            if os.readlink(b"/proc/self/fd/%d" % handle).endswith(b"(deleted)"):
                raise FileNotFoundError(errno.ENOENT, "no name")
            return st

        monkeypatch.setattr(DirTree, "stat_dir", stat_dir)
        box.rmdir(b"a")
        assert (box.union.attributes(node.ino).st_nlink, box.union.names(node.ino)) == (0, [])
