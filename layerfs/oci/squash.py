"""A squashfs image as the target of a layer: contents go out as they come, names are kept until the end.

So a layer becomes a packed snapshot in one pass over its tar, without a file being made. Memory grows with the number
of names. The image is put in its place by one rename when all is well: never half. Times are cut to the second.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from layerfs.errors import Unsupported
from layerfs.oci.tar import Member
from layerfs.oci.target import Data, EntryKind, Outcome, TargetForm, WriteRun, as_stored, own_prefix
from layerfs.pysquashfs import FileSpec, ImageWriter, SquashfsError, WriteOptions
from layerfs.pysquashfs.options import LATEST
from layerfs.pysquashfs.target import replacing
from layerfs.snapshots.driver import Nesting
from layerfs.sys.copy import write_all
from layerfs.xar.builder import digest_from
from layerfs.xar.header_writer import make_header

BLOCK_SIZE: Final = 256 << 10  # bytes; as the packer of snapshots has it
LEVEL: Final = 1  # of zstd: whoever unpacks waits, and the writer's own default took ten times the CPU time
_NAME_MAX: Final = 255
_UUID: Final = "00000000"  # until the image's digest is known
_NEW: Final = Member(b"", stat.S_IFDIR, 0o700, 0, 0, 0)


class SquashNode:
    """A file of the image; a directory has children, a regular file its content's index."""

    __slots__ = ("children", "content", "member", "opaque")

    def __init__(self, member: Member) -> None:
        self.member = member
        self.children: dict[bytes, SquashNode] | None = {} if member.kind == stat.S_IFDIR else None
        self.content = 0
        self.opaque = False


class SquashTarget:
    """A tree in memory over the contents in an image that is being written."""

    form = TargetForm.OVERLAY
    write_run: WriteRun | None = None

    def __init__(self, writer: ImageWriter, spare: bytes, nesting: Nesting = Nesting.NONE) -> None:
        """`spare`: a directory for the one sparse file at a time that takes a detour."""
        self._writer = writer
        self._spare = spare
        self._root = SquashNode(replace(_NEW, mode=0o755))
        self._opaque = own_prefix() + b"opaque"
        self._nesting = nesting

    def root(self) -> SquashNode:
        return self._root

    def kind(self, at: SquashNode, name: bytes) -> EntryKind:
        node = _children(at).get(name)
        if node is None:
            return EntryKind.ABSENT
        if node.children is not None:
            return EntryKind.DIRECTORY
        if node.member.kind == stat.S_IFLNK:
            return EntryKind.SYMLINK
        return EntryKind.WHITEOUT if node.member.kind == stat.S_IFCHR and not _device(node.member) else EntryKind.OTHER

    def enter(self, at: SquashNode, name: bytes) -> SquashNode:
        node = _children(at).get(name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        _children(node)
        return node

    def leave(self, handle: SquashNode) -> None:
        pass

    def names(self, at: SquashNode) -> list[bytes]:
        return list(_children(at))

    def readlink(self, at: SquashNode, name: bytes) -> bytes:
        return _children(at)[name].member.target

    def mkdir(self, at: SquashNode, name: bytes) -> None:
        self._put(at, name, SquashNode(_NEW))

    def _put(self, at: SquashNode, name: bytes, node: SquashNode) -> None:
        if name in _children(at):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        if len(name) > _NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
        _children(at)[name] = node

    def add(self, at: SquashNode, name: bytes, member: Member, data: Data) -> None:
        member = as_stored(member, self._nesting)
        node = SquashNode(member)
        self._put(at, name, node)
        if member.kind == stat.S_IFREG:
            node.content = self._store(member, data)
            member.extents = None

    def _store(self, member: Member, data: Data) -> int:
        if member.extents is None:
            return self._writer.store(FileSpec(member.path, data=data()))  # type: ignore[arg-type]
        fd = os.open(self._spare, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, member.size)
            stream, piece = data(), memoryview(b"")
            for offset, length in member.extents:
                while length:
                    piece = piece or next(stream)
                    now, piece = piece[:length], piece[length:]
                    write_all(fd, now, offset)
                    offset, length = offset + len(now), length - len(now)
            return self._writer.store(FileSpec(member.path, source=fd))
        finally:
            os.close(fd)

    def set_metadata(self, handle: SquashNode, member: Member) -> None:
        handle.member = as_stored(member, self._nesting)

    def time(self, handle: SquashNode) -> int:
        return handle.member.mtime_ns

    def set_time(self, handle: SquashNode, mtime_ns: int) -> None:
        handle.member = replace(handle.member, mtime_ns=mtime_ns)

    def remove(self, at: SquashNode, name: bytes) -> None:
        _children(at).pop(name, None)

    def hold(self, at: SquashNode, name: bytes) -> SquashNode | None:
        return _children(at).get(name)

    def drop(self, held: SquashNode) -> None:
        pass

    def link(self, held: SquashNode, at: SquashNode, name: bytes) -> None:
        self._put(at, name, held)

    def same(self, held: SquashNode, at: SquashNode, name: bytes) -> bool:
        return _children(at).get(name) is held

    def whiteout(self, at: SquashNode, name: bytes) -> None:
        self._put(at, name, SquashNode(Member(name, stat.S_IFCHR, 0, 0, 0, 0)))

    def set_opaque(self, handle: SquashNode) -> None:
        handle.opaque = True

    def is_opaque(self, handle: SquashNode) -> bool:
        return handle.opaque

    def finish(self, outcome: Outcome) -> None:
        pass

    def entries(self) -> Iterator[FileSpec]:
        """Yield the whole tree, each directory before what is in it, names sorted."""
        first: dict[SquashNode, bytes] = {}
        waiting = [(b"", self._root)]
        while waiting:
            path, node = waiting.pop()
            if (known := first.get(node)) is not None:
                yield FileSpec(path, link=known)
                continue
            if node.children is None:
                first[node] = path
            yield self._entry(path, node)
            inner = sorted((node.children or {}).items(), reverse=True)
            waiting += [(path + b"/" + name if path else name, child) for name, child in inner]

    def _entry(self, path: bytes, node: SquashNode) -> FileSpec:
        member = node.member
        mtime = member.mtime_ns // 10**9
        if not 0 <= mtime <= LATEST:
            where = os.fsdecode(path) or "/"
            raise Unsupported(f"a squashfs image cannot hold the time before 1970 or after 2106 of {where}")
        return FileSpec(
            path,
            member.kind | member.mode,
            member.uid,
            member.gid,
            mtime,
            target=member.target,
            rdev=_device(member) if member.kind in (stat.S_IFCHR, stat.S_IFBLK) else 0,
            xattrs=member.xattrs | ({self._opaque: b"y"} if node.opaque else {}),
            stored=node.content,
        )


def _children(node: SquashNode) -> dict[bytes, SquashNode]:
    if node.children is None:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return node.children


def _device(member: Member) -> int:
    return os.makedev(member.major, member.minor)


@contextmanager
def packing(path: bytes, nesting: Nesting = Nesting.NONE) -> Iterator[SquashTarget]:
    """Give a target that becomes a XAR at `path`, on disk, when the block ends well; else nothing is there.

    Raises Unsupported for a layer that no image can hold, which a directory may (POSIX ACLs).
    """
    try:
        with replacing(path) as fd:
            offset = len(_header(_UUID))
            options = WriteOptions(
                level=LEVEL,
                block_size=BLOCK_SIZE,
                compress_inodes=False,
                compress_xattrs=False,
                xattr_table=True,
                own_times=True,
            )
            with ImageWriter(fd, options, offset=offset) as writer:
                target = SquashTarget(writer, os.path.dirname(path), nesting)
                yield target
                writer.finish(target.entries())
            os.pwrite(fd, _header(digest_from(fd, offset)[:8]), 0)
            os.fchmod(fd, 0o644)
    except SquashfsError as error:
        if error.errno == errno.EOPNOTSUPP:
            raise Unsupported(f"a squashfs image cannot hold the layer: {error}") from None
        raise


def _header(uuid: str) -> bytes:
    return make_header(uuid=uuid, version="0", target=None, dependencies=(), mount_root=None, trampolines=())
