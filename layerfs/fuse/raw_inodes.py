"""The requests about inodes that pyfuse3 does not know: a file without a name, the birth time, inode flags."""

import errno
import os
import stat
from typing import Any, Final

from layerfs.fuse import wire
from layerfs.fuse.filedata import FileData
from layerfs.fuse.wire import ClientIds, Request
from layerfs.sys.file_attr import FSSETXATTR, SETFLAGS, SIZES
from layerfs.union.mutate import Caller

_DIRECT_IO: Final = 1 << 0  # FOPEN_DIRECT_IO
_KEEP_CACHE: Final = 1 << 1  # FOPEN_KEEP_CACHE


class RawInodes:
    """Answers for the inodes of one union."""

    def __init__(self, files: FileData[Any]) -> None:
        self._files = files
        self._union = files.union
        self._replies = wire.Replies(files.union.options.timeout)

    async def tmpfile(self, request: Request, client: ClientIds) -> bytes:
        """Make a file without a name (O_TMPFILE). link(2) may give it one."""
        flags, mode, umask, _ = wire.CREATE_REQUEST.unpack_from(request.body)
        node = self._union.make_unnamed(request.node, stat.S_IMODE(mode), Caller(client.uid, client.gid, umask))
        node.lookups += 1
        try:
            entry = self._replies.entry(node.ino, self._union.attributes(node.ino))
            file = self._files.answer_open(node.ino, flags, client)
        except BaseException:
            self._union.release(node.ino)
            self._union.forget(node.ino, 1)
            raise
        if isinstance(file, bytes):  # the prelude's form of it
            return entry + file
        bits = _KEEP_CACHE * bool(file.keep_cache) | _DIRECT_IO * bool(file.direct_io)
        return entry + wire.OPEN_REPLY.pack(file.fh, bits, 0)

    def statx(self, request: Request, _: ClientIds) -> bytes:
        """Return the attributes, with the time of birth where the filesystem below knows it."""
        st = self._union.attributes(request.node)
        return self._replies.statx(request.node, st, self._union.birth_time(request.node))

    async def ioctl(self, request: Request, client: ClientIds) -> bytes:
        """Read or change inode flags. ENOTTY for any other ioctl."""
        _, _, command, _, in_size, out_size = wire.IOCTL_REQUEST.unpack_from(request.body)
        if command not in SIZES:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        value = request.body[wire.IOCTL_REQUEST.size :][:in_size]
        if command in (SETFLAGS, FSSETXATTR):
            if len(value) != SIZES[command]:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            self._check_owner(request.node, command, client)
            if stat.S_ISREG(self._union.attributes(request.node).st_mode):
                await self._files.prepare_write(request.node, client.pid)
            self._union.set_flags(request.node, command, value)
            return wire.IOCTL_REPLY.pack(0, 0, 0, 0)
        found = self._union.flags(request.node, command)
        if len(found) != out_size:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return wire.IOCTL_REPLY.pack(0, 0, 0, 0) + found

    def _check_owner(self, number: int, command: int, client: ClientIds) -> None:
        """Raise EPERM for a caller who may not change flags: kernels before 5.13 do not check that."""
        may = () if command == FSSETXATTR else (self._union.attributes(number).st_uid,)  # a project is root's
        if client.uid and client.uid not in may:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
