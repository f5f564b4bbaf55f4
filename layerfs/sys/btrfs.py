"""btrfs's subvolumes by ioctl (linux/btrfs.h, linux/btrfs_tree.h): made, copied, made read-only, counted, destroyed.

Below a subvolume that a stranger could write to may be further ones. They are found in the tree of roots, and opened
and destroyed by their numbers, so no name in them is ever used. All but making and copying is for root.
"""

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from layerfs.sys import libc
from layerfs.sys.sync import filesystem_type

MAGIC: Final = 0x9123683E  # of statfs(2)
ROOT_INODE: Final = 256  # BTRFS_FIRST_FREE_OBJECTID: the number of each subvolume's root directory

_SUBVOL_CREATE: Final = 0x5000940E
_SNAP_CREATE_V2: Final = 0x50009417
_SNAP_DESTROY_V2: Final = 0x5000943F
_SUBVOL_GETFLAGS: Final = 0x80089419
_SUBVOL_SETFLAGS: Final = 0x4008941A
_GET_SUBVOL_INFO: Final = 0x81F8943C
_TREE_SEARCH_V2: Final = 0xC0709411
_QUOTA_CTL: Final = 0xC0109428
_QGROUP_LIMIT: Final = 0x8030942B

_RDONLY: Final = 1 << 1
_SPEC_BY_ID: Final = 1 << 4
_QUOTA_ENABLE: Final = 1
_LIMIT_EXCLUSIVE: Final = 1 << 1
_VOL_ARGS: Final = struct.Struct("=q4088s")
_VOL_ARGS_V2: Final = struct.Struct("=qQQ32x4040s")
_BY_ID: Final = struct.Struct("=qQQ32xQ4032x")
_INFO: Final = struct.Struct("=Q256sQQQQ16s16s16sQQ144x")
_KEY: Final = struct.Struct("=7Q4I4QQ")  # struct btrfs_ioctl_search_key, and the size of the buffer behind it
_HEADER: Final = struct.Struct("=QQQII")  # transid, objectid, offset, type, length
_INODE: Final = struct.Struct("=QQ")  # generation, transid: the first words of struct btrfs_inode_item
_EXTENT: Final = struct.Struct("=QQBBHB")  # struct btrfs_file_extent_item up to its type
_ON_DISK: Final = struct.Struct("=QQ")  # disk_bytenr, disk_num_bytes behind that
_LIMIT: Final = struct.Struct("=6Q")
_HANDLE: Final = struct.Struct("=IiQQI")  # struct file_handle, with objectid, root and generation

_HANDLE_TYPE: Final = 0x4D  # FILEID_BTRFS_WITHOUT_PARENT (linux/exportfs.h)
_BUFFER: Final = 64 << 10  # bytes of one answer; guessed
_ROOT_TREE: Final = 1
_ROOT_REF: Final = 156
_INODE_ITEM: Final = 1
_EXTENT_DATA: Final = 108
_INLINE: Final = 0
_LARGEST: Final = 2**64 - 1
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Own(NamedTuple):
    """What a subvolume does not share with the one that it was copied from: bytes of data on disk, and inodes."""

    size: int
    inodes: int


def is_btrfs(path: bytes) -> bool:
    """Tell whether a path is on btrfs."""
    return filesystem_type(path) == MAGIC


def is_subvolume(path: bytes) -> bool:
    """Tell whether a path on btrfs is the root of a subvolume; it is not followed."""
    try:
        st = os.lstat(path)
    except FileNotFoundError:
        return False
    return st.st_ino == ROOT_INODE


def create(directory: bytes, name: bytes) -> None:
    """Make an empty subvolume in a directory."""
    with _opened(directory) as fd:
        fcntl.ioctl(fd, _SUBVOL_CREATE, bytearray(_VOL_ARGS.pack(0, name)))


def snapshot(source: bytes, directory: bytes, name: bytes, *, read_only: bool) -> None:
    """Copy a subvolume into a directory; it takes no longer for a large one."""
    with _opened(source) as old, _opened(directory) as fd:
        fcntl.ioctl(fd, _SNAP_CREATE_V2, bytearray(_VOL_ARGS_V2.pack(old, 0, _RDONLY if read_only else 0, name)))


def set_read_only(path: bytes, wanted: bool) -> None:
    """Let a subvolume be written to, or not."""
    with _opened(path) as fd:
        _set_read_only(fd, wanted)


def destroy(path: bytes) -> None:
    """Destroy a subvolume with all that are below it, read-only or not; one that is not there is fine."""
    if not is_subvolume(path):
        return
    with _opened(os.path.dirname(path)) as fd:
        with _opened(path) as root:
            number = _info(root).number
        for each in reversed(_below(fd, number)):
            with _opened_by_id(fd, each) as inside:
                _set_read_only(inside, False)
        for each in _below(fd, number):
            try:
                fcntl.ioctl(fd, _SNAP_DESTROY_V2, bytearray(_BY_ID.pack(0, 0, _SPEC_BY_ID, each)))
            except FileNotFoundError:
                continue


def own(path: bytes) -> Own:
    """Return what a subvolume does not share with the one that it was copied from, as far as it has reached the disk.

    Read from its tree: what is older than the copy is left out. The cost grows with what changed; no file is opened.
    """
    with _opened(path) as fd:
        since = _info(fd).since
        extents: dict[int, int] = {}
        inline = inodes = 0
        for kind, item in _search(fd, 0, (ROOT_INODE, _INODE_ITEM), (_LARGEST, _EXTENT_DATA), newer=since):
            if kind == _INODE_ITEM:
                inodes += _INODE.unpack_from(item)[0] >= since
            elif kind == _EXTENT_DATA:
                generation, size, *_, form = _EXTENT.unpack_from(item)
                if generation < since:
                    continue
                if form == _INLINE:
                    inline += size
                else:
                    start, length = _ON_DISK.unpack_from(item, _EXTENT.size)
                    extents[start] = length
        extents.pop(0, None)  # holes
        return Own(inline + sum(extents.values()), inodes)


def limit(path: bytes, size: int) -> None:
    """Let a subvolume take no more than `size` bytes that it shares with no other; quotas are turned on for that."""
    with _opened(path) as fd:
        fcntl.ioctl(fd, _QUOTA_CTL, bytearray(struct.pack("=QQ", _QUOTA_ENABLE, 0)))
        fcntl.ioctl(fd, _QGROUP_LIMIT, bytearray(_LIMIT.pack(0, _LIMIT_EXCLUSIVE, 0, size, 0, 0)))


@contextmanager
def _opened(path: bytes) -> Iterator[int]:
    fd = os.open(path, _DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _opened_by_id(mount: int, number: int) -> Iterator[int]:
    """Open the root of a subvolume wherever it is (open_by_handle_at(2); generation 0 fits every root)."""
    buffer = ctypes.create_string_buffer(_HANDLE.pack(20, _HANDLE_TYPE, ROOT_INODE, number, 0), _HANDLE.size)
    fd = libc.call("open_by_handle_at", mount, buffer, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _set_read_only(fd: int, wanted: bool) -> None:
    buffer = bytearray(8)
    fcntl.ioctl(fd, _SUBVOL_GETFLAGS, buffer)
    old = int.from_bytes(buffer, "little")
    new = old | _RDONLY if wanted else old & ~_RDONLY
    if new != old:
        fcntl.ioctl(fd, _SUBVOL_SETFLAGS, new.to_bytes(8, "little"))


class _Info(NamedTuple):
    """A subvolume's number, and the first transaction in which something could be changed in it alone."""

    number: int
    since: int


def _info(fd: int) -> _Info:
    buffer = bytearray(_INFO.size)
    fcntl.ioctl(fd, _GET_SUBVOL_INFO, buffer)
    number, _, _, _, _, _, _, parent, _, _, made = _INFO.unpack(buffer)
    # A copy is made at the very end of a transaction, in which its original may have been written to.
    return _Info(number, made + 1 if any(parent) else made)


def _below(fd: int, number: int) -> list[int]:
    """Return a subvolume and all below it, each before the one that it is in."""
    found, waiting = [], [number]
    while waiting:
        each = waiting.pop()
        found.append(each)
        waiting += [child for child in _children(fd, each) if child not in found]
    return found[::-1]


def _children(fd: int, number: int) -> list[int]:
    return [offset for _, offset in _search_keys(fd, _ROOT_TREE, (number, _ROOT_REF), (number, _ROOT_REF))]


def _search_keys(fd: int, tree: int, low: tuple[int, int], high: tuple[int, int]) -> Iterator[tuple[int, int]]:
    for (objectid, _, offset), _ in _items(fd, tree, low, high, 0):
        yield objectid, offset


def _search(fd: int, tree: int, low: tuple[int, int], high: tuple[int, int], newer: int) -> Iterator[tuple[int, bytes]]:
    """Yield types and contents of a tree's items from one (object, type) to another, in nodes not older than that."""
    for (_, kind, _), item in _items(fd, tree, low, high, newer):
        yield kind, item


_Key = tuple[int, int, int]  # object, type, offset


def _items(fd: int, tree: int, low: tuple[int, int], high: tuple[int, int], newer: int) -> Iterator[tuple[_Key, bytes]]:
    """Yield the items of a tree, in the order of their keys."""
    start: _Key = (*low, 0)
    while True:
        buffer = bytearray(_KEY.size + _BUFFER)
        objectid, kind, offset = start
        ids, offsets, transactions, kinds = (objectid, high[0]), (offset, _LARGEST), (newer, _LARGEST), (kind, high[1])
        _KEY.pack_into(buffer, 0, tree, *ids, *offsets, *transactions, *kinds, 2**32 - 1, 0, 0, 0, 0, 0, _BUFFER)
        fcntl.ioctl(fd, _TREE_SEARCH_V2, buffer)
        count, at = _KEY.unpack_from(buffer)[9], _KEY.size
        key = start
        for _ in range(count):
            _, objectid, offset, kind, length = _HEADER.unpack_from(buffer, at)
            at += _HEADER.size
            key = objectid, kind, offset
            if low <= (objectid, kind) <= high:
                yield key, bytes(buffer[at : at + length])
            at += length
        if not count:
            return
        start = _next(key)


def _next(key: _Key) -> _Key:
    """Return the key behind a key, as one number of 136 bits."""
    objectid, kind, offset = key
    if offset < _LARGEST:
        return objectid, kind, offset + 1
    if kind < 255:
        return objectid, kind + 1, 0
    if objectid == _LARGEST:
        raise OSError(errno.EOVERFLOW, "a tree that does not end")
    return objectid + 1, 0, 0
