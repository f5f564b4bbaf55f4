"""Random layers and operations over a small pool of names, so that they meet often."""

import os
import stat

from hypothesis import strategies as st

from tests.oracle.operations import EXCHANGE, NOREPLACE, RENAME_WHITEOUT, Operation
from tests.oracle.trees import Kind, Layer, Marks, Node
from tests.oracle.world import World

TOP = [b"a", b"b", b"c", b"d"]
SECOND = [b"a/x", b"a/y", b"b/x", b"b/y", b"c/x", b"d/y"]
THIRD = [b"a/x/p", b"a/x/q", b"b/x/p", b"a/y/p", b"b/y/q"]
ODD = [b"", b"a/../b", b"a/", b"a/x/", b"n" * 255, b"n" * 256, b"a/\xff\xfe\n", b"absent/x", b"e"]
PATHS = TOP * 3 + SECOND * 2 + THIRD
DATA = [b"", b"one", b"two two", b"\0" * 5000 + b"end", b"x" * 9000]
MODES = [0o644, 0o600, 0o755, 0o4755, 0o2755, 0o1777, 0o700, 0o000, 0o2777]
TIMES = [0, -1_000_000_000_500_000_001, 8_000_000_000_000_000_007, 1_234_567_890_987_654_321]
ACL = b"\x02\0\0\0" + b"".join(
    tag.to_bytes(2, "little") + permission.to_bytes(2, "little") + who.to_bytes(4, "little")
    for tag, permission, who in [(1, 7, 2**32 - 1), (2, 6, 0), (4, 5, 2**32 - 1), (0x10, 7, 2**32 - 1), (0x20, 1, 2**32 - 1)]
)
XATTRS = [("user.one", b"1"), ("user.two", b"\0\xff"), ("user.empty", b""), ("user.long", b"v" * 300)]
PRIVILEGED_XATTRS = [("trusted.one", b"t"), ("security.own", b"s")]
ACL_NAMES = ["system.posix_acl_access", "system.posix_acl_default"]

paths = st.sampled_from(PATHS) | st.sampled_from(PATHS) | st.sampled_from(PATHS) | st.sampled_from(ODD)
slots = st.integers(0, 2)
data = st.sampled_from(DATA)
modes = st.sampled_from(MODES)
times = st.sampled_from(TIMES)


def owners(privileged: bool) -> st.SearchStrategy[int]:
    return st.sampled_from([0, 1000, 1001]) if privileged else st.just(0)


def xattr_pairs(privileged: bool) -> st.SearchStrategy[tuple[str, bytes]]:
    return st.sampled_from(XATTRS + PRIVILEGED_XATTRS * privileged)


@st.composite
def nodes(draw: st.DrawFn, privileged: bool) -> Node:
    """One name of a layer."""
    kinds = [Kind.FILE, Kind.DIR, Kind.DIR, Kind.WHITEOUT, Kind.SYMLINK, Kind.FIFO, Kind.SOCKET]
    kinds += [Kind.CHAR, Kind.BLOCK, Kind.HARDLINK] if privileged else []
    kind = draw(st.sampled_from(kinds))
    contents = {
        Kind.FILE: data,
        Kind.SYMLINK: st.sampled_from([b"b", b"x", b"../b/x", b"nowhere", b"a"]),
        Kind.HARDLINK: st.sampled_from(TOP + SECOND),
    }
    xattrs = draw(st.lists(xattr_pairs(privileged), max_size=1))
    return Node(
        kind,
        draw(contents.get(kind, st.just(b""))),
        draw(modes) if kind is not Kind.SYMLINK else 0o777,
        draw(owners(privileged)),
        draw(owners(privileged)),
        (240, 7) if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0),
        tuple(xattrs),
        draw(times),
        kind is Kind.DIR and draw(st.integers(0, 3)) == 3,
    )


def layers(privileged: bool) -> st.SearchStrategy[Layer]:
    return st.dictionaries(st.sampled_from(TOP + SECOND + THIRD), nodes(privileged), min_size=2, max_size=8)


def worlds(privileged: bool) -> st.SearchStrategy[World]:
    marks = st.sampled_from(list(Marks))
    return st.builds(World, st.lists(layers(privileged), min_size=1, max_size=4).map(tuple), marks)


def _operation(name: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Operation]:
    return st.tuples(st.just(name), *arguments)


OPEN_FLAGS = [
    os.O_RDONLY,
    os.O_RDWR,
    os.O_WRONLY,
    os.O_RDWR | os.O_CREAT,
    os.O_RDWR | os.O_CREAT | os.O_EXCL,
    os.O_WRONLY | os.O_TRUNC,
    os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    os.O_WRONLY | os.O_APPEND,
    os.O_RDWR | os.O_NOFOLLOW,
    os.O_RDONLY | os.O_DIRECTORY,
    os.O_RDONLY | os.O_TRUNC,
]
RENAMES = [0, 0, 0, NOREPLACE, EXCHANGE, EXCHANGE, NOREPLACE | EXCHANGE, RENAME_WHITEOUT]
DEVICES = [stat.S_IFIFO | 0o640, stat.S_IFSOCK | 0o600, stat.S_IFREG | 0o644]


def file_operations() -> list[st.SearchStrategy[Operation]]:
    """On numbered open files."""
    sizes, offsets = st.sampled_from([0, 3, 4096, 10_000]), st.sampled_from([0, 2, 4096])
    return [
        _operation("open", slots, paths, st.sampled_from(OPEN_FLAGS), modes),
        _operation("open", slots, paths, st.sampled_from(OPEN_FLAGS), modes),
        _operation("close", slots),
        _operation("write", slots, data),
        _operation("pwrite", slots, offsets, data),
        _operation("pread", slots, offsets, sizes),
        _operation("ftruncate", slots, sizes),
        _operation("fchmod", slots, modes),
        _operation("fsync", slots),
        _operation("fstat", slots),
        _operation("mmap_write", slots, st.sampled_from([0, 1]), st.sampled_from([b"M", b"mm"])),
    ]


def name_operations(privileged: bool) -> list[st.SearchStrategy[Operation]]:
    """That change the tree."""
    devices = DEVICES + [stat.S_IFCHR | 0o600, stat.S_IFBLK | 0o600] * privileged
    owner = owners(privileged)
    renaming = _operation("rename", paths, paths, st.sampled_from(RENAMES))
    return [
        _operation("put", paths, data),
        _operation("create", paths, data),
        _operation("append", paths, data),
        _operation("truncate", paths, st.sampled_from([0, 2, 7000])),
        _operation("mkdir", paths, modes),
        _operation("mkdir", paths, modes),
        _operation("rmdir", paths),
        _operation("unlink", paths),
        _operation("unlink", paths),
        *[renaming] * 4,
        _operation("link", paths, paths),
        _operation("symlink", st.sampled_from([b"x", b"../a", b"b", b"loop/"]), paths),
        _operation("mknod", paths, st.sampled_from(devices), st.just(240), st.just(9)),
        _operation("chmod", paths, modes),
        _operation("chown", paths, st.just(-1) | owner, st.just(-1) | owner),
        _operation("utimens", paths, times),
        _operation("open_unlink_read", paths, data),
    ]


@st.composite
def setxattrs(draw: st.DrawFn, privileged: bool) -> Operation:
    if draw(st.integers(0, 4)) == 0:
        return ("setxattr", draw(paths), draw(st.sampled_from(ACL_NAMES)), ACL, 0)
    name, value = draw(xattr_pairs(privileged))
    return ("setxattr", draw(paths), name, value, draw(st.sampled_from([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE])))


def other_operations(privileged: bool) -> list[st.SearchStrategy[Operation]]:
    """That look, and extended attributes."""
    names = st.sampled_from([name for name, _ in XATTRS + PRIVILEGED_XATTRS * privileged] + ACL_NAMES)
    return [
        setxattrs(privileged),
        setxattrs(privileged),
        _operation("removexattr", paths, names),
        _operation("getxattr", paths, names),
        _operation("read", paths),
        _operation("stat", paths),
        _operation("access", paths, st.integers(0, 7)),
        _operation("readlink", paths),
        _operation("readdir", paths),
        _operation("fsyncdir", paths),
        _operation("umask", st.sampled_from([0, 0o022, 0o077])),
        _operation("checkpoint"),
        _operation("forget"),
    ]


def operations(privileged: bool) -> st.SearchStrategy[list[Operation]]:
    """A sequence; `nop` is the simplest, so that shrinking shortens it below its least length."""
    every = st.one_of(*file_operations(), *name_operations(privileged), *other_operations(privileged))
    simple = [*name_operations(privileged)]
    if privileged:
        every = every | st.tuples(st.just("as"), st.sampled_from([1000, 1001]), st.one_of(*simple))
    return st.lists(st.just(("nop",)) | every | every | st.one_of(*simple), min_size=20, max_size=50)
