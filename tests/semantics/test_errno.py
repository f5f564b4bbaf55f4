"""Every call's errors, as a native filesystem gives them: tables in the spirit of pjdfstest.

Each table runs on a directory of the mount and on the filesystem below it: equal answers, and those that POSIX names.
"""

import errno
import os
import stat
from collections.abc import Callable, Sequence

import pytest

from tests.oracle.operations import EXCHANGE, NOREPLACE, renameat2
from tests.oracle.trees import Kind, Layer, Node, directory, file, symlink
from tests.semantics.mounted import Mounted, acting_as, error_of, root_only

Case = tuple[Callable[..., object], tuple[object, ...], int]

LAYER: Layer = {
    b"file": file(b"data"),
    b"dir/inside": file(b"x"),
    b"empty": directory(),
    b"link": symlink(b"file"),
    b"dirlink": symlink(b"dir"),
    b"dangling": symlink(b"nowhere"),
    b"loop1": symlink(b"loop2"),
    b"loop2": symlink(b"loop1"),
    b"fifo": Node(Kind.FIFO),
    b"socket": Node(Kind.SOCKET),
}
LONG = b"n" * 256
DEEP = b"x/" * 2048  # 4096 bytes
E = errno


def on_paths(call: Callable[..., object], *arguments: object) -> list[Case]:
    """What any call says of a bad path: through a file, absent, too long, in a loop."""
    return [
        (call, (b"file/x", *arguments), E.ENOTDIR),
        (call, (b"absent/x", *arguments), E.ENOENT),
        (call, (LONG, *arguments), E.ENAMETOOLONG),
        (call, (b"dir/" + LONG, *arguments), E.ENAMETOOLONG),
        (call, (DEEP, *arguments), E.ENAMETOOLONG),
        (call, (b"loop1/x", *arguments), E.ELOOP),
        (call, (b"dangling/x", *arguments), E.ENOENT),
        (call, (b"", *arguments), E.ENOENT),
    ]


def create_in(path: bytes, flags: int = 0) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_NONBLOCK | flags, 0o644))


def open_as(path: bytes, flags: int) -> None:
    os.close(os.open(path, flags | os.O_NONBLOCK))


def mkdev(path: bytes) -> None:
    os.mknod(path, stat.S_IFIFO | 0o600)


def symlink_at(path: bytes) -> None:
    os.symlink(b"x", path)


def link_from(path: bytes) -> None:
    os.link(path, b"new", follow_symlinks=False)


def link_to(path: bytes) -> None:
    os.link(b"file", path)


def rename_from(path: bytes) -> None:
    os.rename(path, b"new")


def rename_to(path: bytes) -> None:
    os.rename(b"file", path)


PATHS = [
    *on_paths(os.lstat),
    *on_paths(create_in),
    *on_paths(os.listdir),
    *on_paths(os.mkdir),
    *on_paths(os.rmdir),
    *on_paths(os.unlink),
    *on_paths(mkdev),
    *on_paths(symlink_at),
    *on_paths(link_from),
    *on_paths(link_to),
    *on_paths(rename_from),
    *on_paths(rename_to),
    *on_paths(os.chmod, 0o644),
    *on_paths(os.chown, 0, 0),
    *on_paths(os.truncate, 0),
    *on_paths(os.utime),
    *on_paths(os.readlink),
    *on_paths(os.setxattr, "user.x", b""),
    *on_paths(os.getxattr, "user.x"),
    *on_paths(os.listxattr),
    *on_paths(os.statvfs),
]

OPENS: list[Case] = [
    (create_in, (b"file", os.O_EXCL), E.EEXIST),
    (create_in, (b"dir", os.O_EXCL), E.EEXIST),
    (create_in, (b"dangling", os.O_EXCL), E.EEXIST),
    (create_in, (b"dir",), E.EISDIR),
    (create_in, (b"loop1",), E.ELOOP),
    (create_in, (b"new/",), E.EISDIR),
    (open_as, (b"dir", os.O_WRONLY), E.EISDIR),
    (open_as, (b"dir", os.O_RDWR), E.EISDIR),
    (open_as, (b"dir", os.O_RDONLY | os.O_TRUNC), E.EISDIR),
    (open_as, (b"file", os.O_DIRECTORY), E.ENOTDIR),
    (open_as, (b"file/", os.O_RDONLY), E.ENOTDIR),
    (open_as, (b"link", os.O_NOFOLLOW), E.ELOOP),
    (open_as, (b"loop1", os.O_RDONLY), E.ELOOP),
    (open_as, (b"dangling", os.O_RDONLY), E.ENOENT),
    (open_as, (b"fifo", os.O_WRONLY), E.ENXIO),
    (open_as, (b"socket", os.O_RDWR), E.ENXIO),
    (open_as, (b"dirlink", os.O_DIRECTORY | os.O_NOFOLLOW), E.ENOTDIR),
]

NAMES: list[Case] = [
    (os.mkdir, (b"file",), E.EEXIST),
    (os.mkdir, (b"dir",), E.EEXIST),
    (os.mkdir, (b"dangling",), E.EEXIST),
    (os.mkdir, (b"fifo",), E.EEXIST),
    (os.mkdir, (b".",), E.EEXIST),
    (mkdev, (b"file",), E.EEXIST),
    (mkdev, (b"new/",), E.ENOENT),
    (symlink_at, (b"link",), E.EEXIST),
    (symlink_at, (b"dir",), E.EEXIST),
    (os.symlink, (b"", b"new"), E.ENOENT),
    (os.symlink, (b"t" * 4096, b"new"), E.ENAMETOOLONG),
    (os.rmdir, (b"dir",), E.ENOTEMPTY),
    (os.rmdir, (b"file",), E.ENOTDIR),
    (os.rmdir, (b"dirlink",), E.ENOTDIR),
    (os.rmdir, (b"dir/.",), E.EINVAL),
    (os.rmdir, (b"dir/..",), E.ENOTEMPTY),
    (os.unlink, (b"dir",), E.EISDIR),
    (os.unlink, (b"file/",), E.ENOTDIR),
    (os.link, (b"dir", b"new"), E.EPERM),
    (os.link, (b"file", b"link"), E.EEXIST),
    (os.link, (b"file", b"dir"), E.EEXIST),
    (os.link, (b"absent", b"new"), E.ENOENT),
    (os.link, (b"file", b"/dev/new"), E.EXDEV),
    (os.readlink, (b"file",), E.EINVAL),
    (os.readlink, (b"dir",), E.EINVAL),
    (os.truncate, (b"dir", 0), E.EISDIR),
    (os.truncate, (b"file", -1), E.EINVAL),
    (os.truncate, (b"fifo", 0), E.EINVAL),
    (os.chmod, (b"loop1", 0), E.ELOOP),
    (os.chmod, (b"dangling", 0), E.ENOENT),
    (os.setxattr, (b"file", "user.x", b"", os.XATTR_REPLACE), E.ENODATA),
    (os.removexattr, (b"file", "user.x"), E.ENODATA),
    (os.getxattr, (b"file", "user.x"), E.ENODATA),
    (os.listdir, (b"file",), E.ENOTDIR),
]

RENAMES: list[Case] = [
    (os.rename, (b"dir", b"file"), E.ENOTDIR),
    (os.rename, (b"file", b"dir"), E.EISDIR),
    (os.rename, (b"file", b"empty"), E.EISDIR),
    (os.rename, (b"empty", b"dir"), E.ENOTEMPTY),
    (os.rename, (b"dir", b"dir/new"), E.EINVAL),
    (os.rename, (b"dir/inside", b"dir"), E.ENOTEMPTY),
    (os.rename, (b".", b"new"), E.EBUSY),
    (os.rename, (b"dir/.", b"new"), E.EBUSY),
    (os.rename, (b"dir/..", b"new"), E.EBUSY),
    (os.rename, (b"file", b"dir/."), E.EBUSY),
    (os.rename, (b"file", b"/dev/shm/x"), E.EXDEV),
    (os.rename, (b"file/", b"new"), E.ENOTDIR),
    (os.rename, (b"file", b"new/"), E.ENOTDIR),
    (os.rename, (b"link", b"empty"), E.EISDIR),
    (os.rename, (b"empty", b"link"), E.ENOTDIR),
    (renameat2, (b"file", b"link", NOREPLACE), E.EEXIST),
    (renameat2, (b"file", b"dangling", NOREPLACE), E.EEXIST),
    (renameat2, (b"file", b"file", NOREPLACE), E.EEXIST),
    (renameat2, (b"file", b"absent", EXCHANGE), E.ENOENT),
    (renameat2, (b"absent", b"file", EXCHANGE), E.ENOENT),
    (renameat2, (b"dir", b"dir/inside", EXCHANGE), E.EINVAL),
    (renameat2, (b"dir/inside", b"dir", EXCHANGE), E.EINVAL),
    (renameat2, (b"file", b"new", EXCHANGE | NOREPLACE), E.EINVAL),
    (renameat2, (b"file", b"new", 64), E.EINVAL),
]


def check(union: Mounted, cases: Sequence[Case], place: bytes) -> None:
    """Run the cases below `place`: the answers differ in nothing from the table, and nothing was changed."""
    os.chdir(place)
    before = sorted(os.listdir(b"."))
    for call, arguments, expected in cases:
        found = error_of(call, *arguments)
        assert found == expected, (call.__name__, arguments, errno.errorcode.get(found), errno.errorcode[expected])
    assert sorted(os.listdir(b".")) == before
    os.chdir(b"/")


TABLES = {"paths": PATHS, "opens": OPENS, "names": NAMES, "renames": RENAMES}


@pytest.mark.parametrize("table", list(TABLES))
def test_the_table_is_that_of_a_native_filesystem(union: Mounted, table: str) -> None:
    union.build(LAYER)
    check(union, TABLES[table], union.lowers[0])


@pytest.mark.parametrize("table", list(TABLES))
def test_errors_on_lower_files(union: Mounted, table: str) -> None:
    union.mount(LAYER)
    check(union, TABLES[table], union.root)
    assert os.listdir(union.upper) == []  # what fails copies nothing up


@pytest.mark.parametrize("table", list(TABLES))
def test_errors_on_upper_files(union: Mounted, table: str) -> None:
    union.build(LAYER)
    union.lowers.append(union.base + b"/empty")
    os.mkdir(union.lowers[1])
    os.rename(union.lowers[0], union.upper)
    union.lowers = union.lowers[1:]
    union.mount()
    check(union, TABLES[table], union.root)


@root_only
def test_search_and_write_permission_are_asked_of_every_call(union: Mounted) -> None:
    union.mount({b"closed/file": file(uid=1000), b"closed": directory(0o600), b"readonly/file": file(uid=1000)})
    plain = (os.lstat, create_in, os.listdir, os.unlink, os.mkdir, os.utime, os.listxattr, os.readlink)
    cases: list[Case] = [
        *[(call, (b"closed/file",), E.EACCES) for call in plain],
        (os.chmod, (b"closed/file", 0o644), E.EACCES),
        (os.truncate, (b"closed/file", 0), E.EACCES),
        (os.unlink, (b"readonly/file",), E.EACCES),
        (os.mkdir, (b"readonly/new",), E.EACCES),
        (create_in, (b"readonly/new",), E.EACCES),
        (mkdev, (b"readonly/new",), E.EACCES),
        (symlink_at, (b"readonly/new",), E.EACCES),
        (os.rename, (b"readonly/file", b"readonly/new"), E.EACCES),
        (os.link, (b"readonly/file", b"readonly/new"), E.EACCES),
        (os.chown, (b"readonly/file", 0, -1), E.EPERM),
    ]
    os.chdir(union.root)
    with acting_as(1000):
        found = [(call.__name__, error_of(call, *arguments), expected) for call, arguments, expected in cases]
    assert [case for case in found if case[1] != case[2]] == []
