"""Random layers over a small pool of names, so that they meet often, and random operations aimed at what is there."""

import os
import stat
import struct
from collections.abc import Mapping

from hypothesis import strategies as st

from tests.oracle.operations import EXCHANGE, NOREPLACE, Operation
from tests.oracle.trees import Kind, Layer, Marks, Node
from tests.oracle.world import World

TOP = [b"a", b"b", b"c", b"d"]
SECOND = [b"a/x", b"a/y", b"b/x", b"b/y", b"c/x", b"d/y"]
THIRD = [b"a/x/p", b"a/x/q", b"b/x/p", b"a/y/p", b"b/y/q"]
ODD = [b"", b"a/../b", b"a/", b"a/x/", b"n" * 255, b"n" * 256, b"a/\xff\xfe\n", b"absent/x", b"e"]
PATHS = TOP * 3 + SECOND * 2 + THIRD
NAMES = [b"x", b"y", b"p", b"new"]
DATA = [b"", b"one", b"two two", b"@5000", b"@9000"]
MODES = [0o644, 0o777, 0o600, 0o755, 0o666, 0o4755, 0o2755, 0o1777, 0o700, 0o000, 0o2777]
TIMES = [0, -1_000_000_000_500_000_001, 8_000_000_000_000_000_007, 1_234_567_890_987_654_321]
NOBODY = 2**32 - 1
ACL = struct.pack("<I" + "HHI" * 5, 2, 1, 7, NOBODY, 2, 6, 0, 4, 5, NOBODY, 0x10, 7, NOBODY, 0x20, 1, NOBODY)
XATTRS = [("user.one", b"1"), ("user.two", b"\0\xff"), ("user.empty", b""), ("user.long", b"v" * 60)]
PRIVILEGED_XATTRS = [("trusted.one", b"t"), ("security.own", b"s")]
ACL_NAMES = ["system.posix_acl_access", "system.posix_acl_default"]

Paths = st.SearchStrategy[bytes]
anywhere: Paths = st.sampled_from(PATHS * 2 + ODD)
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
    kinds = [Kind.FILE, Kind.DIR, Kind.DIR, Kind.DIR, Kind.WHITEOUT, Kind.SYMLINK, Kind.FIFO, Kind.SOCKET]
    kinds += [Kind.CHAR, Kind.BLOCK, Kind.HARDLINK, Kind.FILE] if privileged else [Kind.FILE]
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
    return st.dictionaries(st.sampled_from(TOP + SECOND + THIRD), nodes(privileged), min_size=2, max_size=9)


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
RENAMES = [0, 0, 0, 0, NOREPLACE, EXCHANGE, EXCHANGE, NOREPLACE | EXCHANGE]
ALLOCATIONS = [0, 1, 2 | 1, 2, 16, 16 | 1]  # linux/falloc.h: plain, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE
DEVICES = [stat.S_IFIFO | 0o640, stat.S_IFSOCK | 0o600, stat.S_IFREG | 0o644]


class Aim:
    """Path strategies for the tree as it is now: most hit, some miss."""

    def __init__(self, types: Mapping[bytes, str], privileged: bool) -> None:
        self.privileged = privileged
        known = sorted(types)
        directories = [path for path in known if types[path] == "d"]
        others = [path for path in known if types[path] != "d"]
        regular = [path for path in known if types[path] == "-"]
        fresh = [os.path.join(parent, name) for parent in directories for name in NAMES if parent.count(b"/") < 4]
        self.new = self._mostly([path for path in fresh if path not in types])
        self.directory = self._mostly([path for path in directories if path])
        self.other = self._mostly(others)
        self.regular = self._mostly(regular or others)
        self.any = self._mostly([path for path in known if path])

    def _mostly(self, hits: list[bytes]) -> Paths:
        hit = st.sampled_from(hits) if hits else anywhere
        return st.one_of(hit, hit, hit, hit, anywhere)


def file_operations(aim: Aim) -> list[st.SearchStrategy[Operation]]:
    """On numbered open files."""
    sizes, offsets = st.sampled_from([0, 3, 4096, 10_000]), st.sampled_from([0, 2, 4096])
    opening = _operation(
        "open", slots, aim.regular | aim.regular | aim.any | aim.new, st.sampled_from(OPEN_FLAGS), modes
    )
    return [
        *[opening] * 3,
        _operation("close", slots),
        _operation("write", slots, data),
        _operation("pwrite", slots, offsets, data),
        _operation("pread", slots, offsets, sizes),
        _operation("ftruncate", slots, sizes),
        _operation("fchmod", slots, modes),
        _operation("fsync", slots),
        _operation("fstat", slots),
        _operation("fallocate", slots, st.sampled_from(ALLOCATIONS), offsets, sizes),
        _operation("seek", slots, offsets, st.sampled_from([os.SEEK_DATA, os.SEEK_HOLE])),
        _operation("copy_range", slots, slots, offsets, offsets, sizes),
        _operation("tmpfile", slots, aim.directory, st.sampled_from([os.O_RDWR, os.O_RDWR | os.O_EXCL]), modes),
        _operation("link_open", slots, aim.new),
        _operation("flags", aim.any, st.sampled_from([0, 0x40, 0x80, 0xC0])),  # FS_NODUMP_FL, FS_NOATIME_FL
        _operation("mmap_write", slots, st.sampled_from([0, 1]), st.sampled_from([b"M", b"mm"])),
    ]


def name_operations(aim: Aim) -> list[st.SearchStrategy[Operation]]:
    """That change the tree."""
    devices = DEVICES + [stat.S_IFCHR | 0o600, stat.S_IFBLK | 0o600] * aim.privileged
    owner = owners(aim.privileged)
    flags = st.sampled_from(RENAMES)
    return [
        _operation("put", aim.regular | aim.new, data),
        _operation("create", aim.new, data),
        _operation("append", aim.regular, data),
        _operation("truncate", aim.regular, st.sampled_from([0, 2, 7000])),
        _operation("mkdir", aim.new, modes),
        _operation("mkdir", aim.new, modes),
        _operation("rmdir", aim.directory),
        _operation("rmtree", aim.directory),
        _operation("unlink", aim.other),
        _operation("unlink", aim.other),
        _operation("rename", aim.any, aim.new, flags),
        _operation("rename", aim.directory, aim.new, flags),
        _operation("rename", aim.directory, aim.directory, flags),
        _operation("rename", aim.any, aim.any, flags),
        _operation("link", aim.other, aim.new),
        _operation("symlink", st.sampled_from([b"x", b"../a", b"b", b"loop/"]), aim.new),
        _operation("mknod", aim.new, st.sampled_from(devices), st.just(240), st.just(9)),
        _operation("chmod", aim.any, modes),
        _operation("chown", aim.any, owner, st.just(-1) | owner),
        _operation("chown", aim.any, st.just(-1), owner),
        _operation("utimens", aim.any, times),
        _operation("open_unlink_read", aim.regular, data),
    ]


@st.composite
def setxattrs(draw: st.DrawFn, aim: Aim) -> Operation:
    """A user's or administrator's attribute, or an ACL."""
    if draw(st.integers(0, 4)) == 0:
        return ("setxattr", draw(aim.any), draw(st.sampled_from(ACL_NAMES)), ACL, 0)
    name, value = draw(xattr_pairs(aim.privileged))
    return ("setxattr", draw(aim.any), name, value, draw(st.sampled_from([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE])))


def other_operations(aim: Aim) -> list[st.SearchStrategy[Operation]]:
    """That look, and extended attributes."""
    names = st.sampled_from([name for name, _ in XATTRS + PRIVILEGED_XATTRS * aim.privileged] + ACL_NAMES)
    return [
        setxattrs(aim),
        setxattrs(aim),
        _operation("removexattr", aim.any, names),
        _operation("getxattr", aim.any, names),
        _operation("read", aim.regular),
        _operation("stat", aim.any),
        _operation("access", aim.any, st.integers(0, 7)),
        _operation("readlink", aim.other),
        _operation("readdir", aim.directory),
        _operation("fsyncdir", aim.directory),
        _operation("umask", st.sampled_from([0, 0o022, 0o077])),
        _operation("checkpoint"),
        _operation("forget"),
        _operation("remount"),
    ]


def operations(types: Mapping[bytes, str], privileged: bool) -> st.SearchStrategy[Operation]:
    """The next operation, for a tree of these types."""
    aim = Aim(types, privileged)
    changes, others = st.one_of(*name_operations(aim)), st.one_of(*file_operations(aim), *other_operations(aim))
    choices = [changes, changes, others]
    if privileged:
        choices.append(st.tuples(st.just("as"), st.sampled_from([1000, 1001]), changes))
    return st.one_of(*choices)
