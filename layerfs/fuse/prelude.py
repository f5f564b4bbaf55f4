"""The first requests of a mount, answered by hand while trio and pyfuse3 are still being imported.

That import takes 100 ms and more, and a mount that was just made is looked at at once. So a thread imports, and until
it has, this loop reads the device and answers what a look takes: lookups, attributes, listings. Whatever else comes
ends the loop: it is held, unanswered, and libfuse reads it first (handshake.Introduction).

Layouts and numbers: include/uapi/linux/fuse.h, protocol 7.38.
"""

import errno
import os
import select
import struct
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Final

from layerfs.errors import LayerfsError
from layerfs.fuse.config import ServeConfig, hold_signals
from layerfs.fuse.handshake import MAX_WRITE, REPLY_HEADER, REQUEST_HEADER, Wanted, negotiate
from layerfs.sys.later import put_off
from layerfs.union.state import Attributes
from layerfs.union.union import Union

ROOM: Final = MAX_WRITE + 8192  # bytes; the kernel hands out no request to whoever has no room for the largest
SERVER: Final = "layerfs.fuse.server"
SWITCH: Final = 100e-6  # seconds; how soon the importing thread lets go of the interpreter (its default: 5 ms)
NAME_MAX: Final = 255
UNKNOWN: Final = 0xFFFFFFFF  # a number in a listing, as libfuse has it (FUSE_UNKNOWN_INO); glibc drops names with 0
_ATTRIBUTES: Final = struct.Struct("=QQQqqqIIIIIIIIII")  # fuse_attr
_ENTRY: Final = struct.Struct("=QQQQII")  # fuse_entry_out, its attributes aside
_ATTR: Final = struct.Struct("=QII")  # fuse_attr_out, likewise
_OPEN: Final = struct.Struct("=QIi")  # fuse_open_out
_READ: Final = struct.Struct("=QQII")  # fuse_read_in: fh, offset, size, read_flags (and what we do not look at)
_DIRENT: Final = struct.Struct("=QQII")  # fuse_dirent: ino, off, namelen, type
_FORGET: Final = struct.Struct("=QQ")  # fuse_forget_one; fuse_batch_forget_in is as long
_STATFS: Final = struct.Struct("=QQQQQIIII24x")  # fuse_kstatfs
_NS: Final = 1_000_000_000


class Listing:
    """One opendir: the names as they were at the last rewind. A cookie is the position of the next name, plus two."""

    __slots__ = ("ino", "names")

    def __init__(self, ino: int) -> None:
        self.ino = ino
        self.names: list[bytes] | None = None


class Prelude:
    """What was answered so far: directories that are open, and at most one request that is not answered."""

    def __init__(self, union: Union) -> None:
        self.listings: dict[int, Listing] = {}
        self.held: bytes | None = None
        self._union = union
        self._timeout = divmod(round(union.options.timeout * _NS), _NS)
        self._answers: dict[int, Callable[[int, bytes], bytes | None]] = {
            1: self._lookup,
            2: self._forget,
            3: self._getattr,
            5: self._readlink,
            17: self._statfs,
            22: self._getxattr,
            27: self._opendir,
            28: self._readdir,
            29: self._releasedir,
            34: _access,
            42: self._batch_forget,
            44: self._readdirplus,
        }

    def answer(self, device: int, until: int) -> None:
        """Answer requests until `until` is readable, or one comes that is not for us. OSError: ENODEV if unmounted."""
        os.set_blocking(device, False)  # gate.Workers says why; and `until` would not be seen
        poll = select.poll()
        poll.register(device, select.POLLIN)
        poll.register(until, select.POLLIN)
        buffer = bytearray(ROOM)
        while all(fd != until for fd, _ in poll.poll()):
            try:
                size = os.readv(device, [buffer])
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):  # taken back by a client that was killed
                    continue
                raise
            if not self._serve(device, bytes(memoryview(buffer)[:size])):
                return

    def _serve(self, device: int, request: bytes) -> bool:
        """Answer one request; False if it is held."""
        _, opcode, unique, node, *_ = REQUEST_HEADER.unpack_from(request)
        answer = self._answers.get(opcode)
        if answer is None:
            self.held = request
            return False
        failure, body = 0, None
        try:
            body = answer(node, request[REQUEST_HEADER.size :])
        except (OSError, LayerfsError) as error:
            failure = error.errno or errno.EIO
        except Exception:
            _log_bug(opcode)
            failure = errno.EIO
        if body is not None or failure:
            body = body or b""
            try:
                os.writev(device, (REPLY_HEADER.pack(REPLY_HEADER.size + len(body), -failure, unique), body))
            except FileNotFoundError:
                pass  # whoever asked was killed meanwhile
        return True

    # Each takes the node's number and what follows the header, and returns what follows the answer's; None: no answer.

    def _lookup(self, parent: int, arguments: bytes) -> bytes:
        try:
            node, st = self._union.lookup(parent, arguments.rstrip(b"\0"))
        except FileNotFoundError:
            return self._entry(0, None)  # number 0 with a timeout: the kernel remembers the absence
        self._union.remember(node)
        return self._entry(node.ino, st)

    def _entry(self, ino: int, st: Attributes | None) -> bytes:
        seconds, ns = self._timeout
        return _ENTRY.pack(ino, 0, seconds, seconds, ns, ns) + _attributes(ino, st)

    def _forget(self, ino: int, arguments: bytes) -> None:
        self._union.forget(ino, int.from_bytes(arguments[:8], sys.byteorder))

    def _batch_forget(self, _: int, arguments: bytes) -> None:
        for ino, count in _FORGET.iter_unpack(arguments[8:]):
            self._union.forget(ino, count)

    def _getattr(self, ino: int, _: bytes) -> bytes:
        seconds, ns = self._timeout
        return _ATTR.pack(seconds, ns, 0) + _attributes(ino, self._union.attributes(ino))

    def _readlink(self, ino: int, _: bytes) -> bytes:
        return self._union.readlink(ino)

    def _statfs(self, _: int, __: bytes) -> bytes:
        vfs = self._union.statvfs()
        sizes = (vfs.f_blocks, vfs.f_bfree, vfs.f_bavail, vfs.f_files, vfs.f_ffree)
        return _STATFS.pack(*sizes, vfs.f_bsize, NAME_MAX, vfs.f_frsize, 0)

    def _getxattr(self, ino: int, arguments: bytes) -> bytes:
        """fuse_getxattr_in: size and padding, then the name; size 0 asks how long the value is."""
        value = self._union.get_xattr(ino, arguments[8:].rstrip(b"\0"))
        size = int.from_bytes(arguments[:4], sys.byteorder)
        if not size:
            return struct.pack("=II", len(value), 0)
        if len(value) > size:
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
        return value

    def _opendir(self, ino: int, _: bytes) -> bytes:
        self._union.ov.directory(ino)
        handle = len(self.listings) + 1
        while handle in self.listings:
            handle += 1
        self.listings[handle] = Listing(ino)
        return _OPEN.pack(handle, 0, 0)

    def _releasedir(self, _: int, arguments: bytes) -> bytes:
        self.listings.pop(int.from_bytes(arguments[:8], sys.byteorder), None)
        return b""

    def _readdir(self, _: int, arguments: bytes) -> bytes:
        return self._list(arguments, plus=False)

    def _readdirplus(self, _: int, arguments: bytes) -> bytes:
        return self._list(arguments, plus=True)

    def _list(self, arguments: bytes, *, plus: bool) -> bytes:
        """Answer with as many names as there is room for, from the one that the offset says."""
        handle, offset, room, _ = _READ.unpack_from(arguments)
        listing = self.listings[handle]
        if offset == 0 or listing.names is None:
            listing.names = self._union.names(listing.ino)
        found, size = [], 0
        for place in range(offset, len(listing.names) + 2):
            entry = self._listed(listing, place, room - size, plus)
            if entry is None:
                break
            found.append(entry)
            size += len(entry)
        return b"".join(found)

    def _listed(self, listing: Listing, place: int, room: int, plus: bool) -> bytes | None:
        """Return one entry of a listing; nothing for a name that is gone, None if there is no room for it."""
        assert listing.names is not None
        union = self._union
        name = (b".", b"..")[place] if place < 2 else listing.names[place - 2]
        length = (_ENTRY.size + _ATTRIBUTES.size) * plus + (_DIRENT.size + len(name) + 7) // 8 * 8
        if length > room:
            return None
        node = None
        try:
            if place < 2:
                ino = listing.ino if place == 0 else union.parent_of(listing.ino)
                st = union.attributes(ino)
            else:
                node, st = union.lookup(listing.ino, name)
                ino = node.ino
        except FileNotFoundError:
            return b""
        except OSError:
            return _bare(place, name, plus)
        entry = _DIRENT.pack(ino, place + 1, len(name), st.st_mode >> 12) + name
        entry += bytes(-len(entry) % 8)
        if not plus:
            if node is not None:
                union.ov.table.reap(node)
            return entry
        if node is not None:  # of `.` and `..` the kernel takes no count
            union.remember(node)
        return self._entry(ino, st) + entry


def _bare(place: int, name: bytes, plus: bool) -> bytes:
    """Return an entry for a name that cannot be looked at now: node 0 means "ask me later" in READDIRPLUS."""
    entry = _DIRENT.pack(UNKNOWN, place + 1, len(name), 0) + name + bytes(-len(name) % 8)
    return bytes(_ENTRY.size + _ATTRIBUTES.size) + entry if plus else entry


def _log_bug(opcode: int) -> None:
    import logging  # 5 ms that the first requests do not wait for

    logging.getLogger(__name__).exception("request %d failed", opcode)


def _access(_: int, __: bytes) -> bytes:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))  # default_permissions: the kernel checks


def _attributes(ino: int, st: Attributes | None) -> bytes:
    if st is None:
        return bytes(_ATTRIBUTES.size)
    (atime, atime_ns), (mtime, mtime_ns), (ctime, ctime_ns) = (
        divmod(stamp, _NS) for stamp in (st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns)
    )
    times = atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns
    ids = st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_rdev, 4096, 0
    return _ATTRIBUTES.pack(ino, st.st_size, st.st_blocks, *times, *ids)


def serve(device: int, union: Union, config: ServeConfig, beside: Callable[[], None] | None = None) -> None:
    """Serve `union` on a mounted /dev/fuse descriptor until it is unmounted, or SIGTERM or SIGINT unmounts it.

    Owns `device` and `union`. To be called once in a process, in its main thread; `beside` is called in another one
    once requests are answered. Raises Unsupported when the kernel is too old.
    """
    prelude = Prelude(union)
    hold_signals()
    try:
        negotiate(device, Wanted.of(union.options, read_only=config.read_only))
        _play(prelude, device, beside, debug=config.debug)
    except BaseException as error:
        os.close(device)
        union.close()
        if isinstance(error, OSError) and error.errno == errno.ENODEV:
            return  # unmounted already
        raise
    from layerfs.fuse.server import go_on

    go_on(device, union, config, prelude)


def _play(prelude: Prelude, device: int, beside: Callable[[], None] | None, *, debug: bool) -> None:
    """Answer what comes while a thread imports the server. Raises ENODEV, and what the import raises."""
    imported = os.eventfd(0, os.EFD_CLOEXEC)
    failures: list[BaseException] = []
    former = sys.getswitchinterval()

    def fetch() -> None:
        put_off("ssl", "hmac")  # trio has uses for them, we have none for those: 5 MB
        try:
            if beside is not None:
                beside()
            import_module(SERVER)
        except BaseException as error:
            failures.append(error)
        os.eventfd_write(imported, 1)

    thread = threading.Thread(target=fetch, name="layerfs-import")
    sys.setswitchinterval(SWITCH)
    try:
        thread.start()
        if not debug:  # every request is to be logged
            prelude.answer(device, imported)
    finally:
        thread.join()
        sys.setswitchinterval(former)
        os.close(imported)
    if failures:
        raise failures[0]
