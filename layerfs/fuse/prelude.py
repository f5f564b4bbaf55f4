"""The first requests of a mount, answered by hand while trio and pyfuse3 are still being imported.

That import takes 100 ms and more, and most mounts are looked at at once. So a thread imports (serve.py), and until it
has, this loop answers what a look takes: lookups, attributes, listings. Any other request ends the loop: it is held,
unanswered, and libfuse reads it first (device.py).

Whatever goes wrong with a request is an error of that request: also an answer that the kernel does not take.
"""

import errno
from collections.abc import Callable
from itertools import chain

from layerfs.errors import LayerfsError
from layerfs.fuse import wire
from layerfs.fuse.device import Device
from layerfs.fuse.listings import Listings
from layerfs.fuse.wire import Opcode
from layerfs.union.union import Union

_LOADED = object()
_DOTS = ((1, b"."), (2, b".."))  # with their cookies
Answer = Callable[[int, bytes], bytes | None]


class _TooLong(Exception):
    """What was asked for takes long: it is for the server, which answers others meanwhile."""


class Prelude:
    """Answers from one union by hand; `listings` are the directories that are open."""

    def __init__(self, union: Union, listings: Listings) -> None:
        self._union = union
        self._listings = listings
        self._replies = wire.Replies(union.options.timeout)
        self.has_shown_root = False  # the kernel knows the root's owner
        self._answers: dict[int, Answer] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.FORGET: self._forget,
            Opcode.GETATTR: self._getattr,
            Opcode.READLINK: self._readlink,
            Opcode.STATFS: self._statfs,
            Opcode.GETXATTR: self._getxattr,
            Opcode.OPENDIR: self._opendir,
            Opcode.READDIR: self._readdir,
            Opcode.RELEASEDIR: self._releasedir,
            Opcode.ACCESS: self._access,
            Opcode.BATCH_FORGET: self._batch_forget,
            Opcode.READDIRPLUS: self._readdirplus,
        }

    def answer(self, device: Device, until: int) -> None:
        """Answer requests until `until` is readable, or one comes that is not for us. OSError: ENODEV if unmounted."""
        for message in device.requests(until):
            request = wire.request(message)
            answer = self._answers.get(request.opcode)
            if answer is None or not _serve(device, request, answer):
                device.held = message
                return

    # Each takes the node's number and what follows the header, and returns what follows the answer's; None: no answer.

    def _load(self, ino: int) -> None:
        """Load a directory's listing, unless it is a large one, for which others are not to wait."""
        if next(self._union.loading(self._union.directory(ino)), _LOADED) is not _LOADED:
            raise _TooLong

    def _lookup(self, parent: int, body: bytes) -> bytes:
        self._load(parent)
        try:
            node, st = self._union.lookup(parent, body.rstrip(b"\0"))
            reply = self._replies.entry(node.ino, st)
        except FileNotFoundError:
            return self._replies.entry(0, None)  # the kernel remembers the absence
        self._union.remember(node)
        return reply

    def _forget(self, ino: int, body: bytes) -> None:
        self._union.forget(ino, *wire.NUMBER.unpack_from(body))

    def _batch_forget(self, _: int, body: bytes) -> None:
        for ino, count in wire.forgotten(body):
            self._union.forget(ino, count)

    def _getattr(self, ino: int, _: bytes) -> bytes:
        self.has_shown_root |= ino == wire.ROOT
        return self._replies.attributes(ino, self._union.attributes(ino))

    def _readlink(self, ino: int, _: bytes) -> bytes:
        return wire.target(self._union.readlink(ino))

    def _statfs(self, _: int, __: bytes) -> bytes:
        return wire.statfs(self._union.statvfs())

    def _getxattr(self, ino: int, body: bytes) -> bytes:
        wanted, _ = wire.XATTR_REQUEST.unpack_from(body)
        return wire.xattr(wanted, self._union.get_xattr(ino, body[wire.XATTR_REQUEST.size :].rstrip(b"\0")))

    def _access(self, _: int, __: bytes) -> bytes:
        raise OSError(errno.ENOSYS, "not needed")  # default_permissions: the kernel checks

    def _opendir(self, ino: int, _: bytes) -> bytes:
        self._union.enter(ino)
        return wire.OPEN_REPLY.pack(self._listings.open(ino), 0, 0)

    def _releasedir(self, _: int, body: bytes) -> bytes:
        self._listings.close(*wire.NUMBER.unpack_from(body))
        return b""

    def _readdir(self, _: int, body: bytes) -> bytes:
        return self._list(body, plus=False)

    def _readdirplus(self, _: int, body: bytes) -> bytes:
        return self._list(body, plus=True)

    def _list(self, body: bytes, *, plus: bool) -> bytes:
        """Answer with as many names as there is room for, from the one that the offset says."""
        handle, offset, room, _ = wire.READ_REQUEST.unpack_from(body)
        listing = self._listings[handle]
        self._load(listing.ino)
        names = listing.since(offset, self._union.listing(listing.ino))
        found, size = [], 0
        for cookie, name in chain(_DOTS[offset:], names):
            entry = self._listed(listing.ino, cookie, name, room - size, plus)
            if entry is None:
                break
            found.append(entry)
            size += len(entry)
        return b"".join(found)

    def _listed(self, ino: int, cookie: int, name: bytes, room: int, plus: bool) -> bytes | None:
        """Return one entry of a listing; nothing for a name that is gone, None if there is no room for it."""
        if wire.dirent_size(name, plus=plus) > room:
            return None
        try:
            if cookie <= len(_DOTS):
                return self._dots(ino, cookie, name, plus)
            return self._named(ino, cookie, name, plus)
        except FileNotFoundError:
            return b""
        except OSError:
            return wire.bare_dirent(cookie, name, plus=plus)

    def _dots(self, ino: int, cookie: int, name: bytes, plus: bool) -> bytes:
        """Return the entry of `.` or `..`; the kernel takes no lookup count for them."""
        ino = ino if cookie == 1 else self._union.parent_of(ino)
        st = self._union.attributes(ino)
        entry = wire.dirent(ino, cookie, name, st.st_mode)
        return self._replies.entry(ino, st) + entry if plus else entry

    def _named(self, parent: int, cookie: int, name: bytes, plus: bool) -> bytes:
        node, st = self._union.lookup(parent, name)
        entry = wire.dirent(node.ino, cookie, name, st.st_mode)
        if not plus:
            self._union.drop(node)
            return entry
        entry = self._replies.entry(node.ino, st) + entry
        self._union.remember(node)
        return entry


def _serve(device: Device, request: wire.Request, answer: Answer) -> bool:
    """Answer one request; a failure is its client's alone. False if the server is to answer it."""
    try:
        body = answer(request.node, request.body)
        if body is not None:
            device.answer(request.unique, body)
        return True
    except _TooLong:
        return False
    except (OSError, LayerfsError) as error:
        code = error.errno or errno.EIO
    except MemoryError:
        code = errno.ENOMEM
    except Exception:
        _log_bug(request.opcode)
        code = errno.EIO
    if request.opcode not in wire.UNANSWERED:
        device.fail(request.unique, code)
    return True


def _log_bug(opcode: int) -> None:
    import logging  # 5 ms that the first requests do not wait for

    logging.getLogger(__name__).exception("request %d failed", opcode)
