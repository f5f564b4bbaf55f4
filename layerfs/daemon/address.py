"""The unix socket that the daemon listens at: its own, closed to others, and put in place at once.

gRPC makes a socket with the process's umask, at a path. So it is made in a new directory that only we can enter, gets
its mode there, and is renamed to its address: nobody ever sees it open, and what a daemon that was killed left behind
is replaced. A lock beside it (ADDRESS.lock) keeps two daemons from one address.
"""

import os
import socket
import stat
from contextlib import suppress
from typing import Final

from layerfs.errors import InvalidArgument, NotReady
from layerfs.sys.locks import lock_file
from layerfs.sys.trust import Trusted, walk

LOCK: Final = b".lock"
_NAME: Final = b"socket"


class Address:
    """An address that is ours: gRPC makes its socket at `bind`, `publish` puts it in place, `close` removes it."""

    def __init__(self, path: bytes, mode: int = 0o600) -> None:
        self.path = os.path.abspath(path)
        self._mode = mode
        directory, self._base = os.path.split(self.path)
        self._place: Trusted = walk(directory, make=0o755, sticky=True)
        self._draft = b".%s.%s" % (self._base, os.urandom(6).hex().encode())
        self._lock = -1
        self._made: tuple[int, int] | None = None
        try:
            self._lock = self._take()
            os.mkdir(self._draft, 0o700, dir_fd=self._place.fd)
        except BaseException:
            self.close()
            raise

    def _take(self) -> int:
        """Lock the address, once it is known that no other daemon and no other thing stands there."""
        try:
            lock = lock_file(b"/proc/self/fd/%d/%s" % (self._place.fd, self._base + LOCK), wait=False)
        except BlockingIOError:
            raise self._taken() from None
        try:
            st = os.stat(self._base, dir_fd=self._place.fd, follow_symlinks=False)
        except FileNotFoundError:
            return lock
        try:
            if not stat.S_ISSOCK(st.st_mode):
                raise InvalidArgument(f"{os.fsdecode(self.path)} is not a socket", "give another --address")
            if st.st_uid != os.geteuid():
                raise InvalidArgument(
                    f"the socket {os.fsdecode(self.path)} belongs to another user ({st.st_uid})",
                    "give another --address",
                )
            if self._answers():
                raise self._taken()
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _taken(self) -> NotReady:
        return NotReady(
            f"another daemon listens at {os.fsdecode(self.path)}", "stop that one first, or give another --address"
        )

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)  # a full backlog is an answer, too
            try:
                probe.connect(b"/proc/self/fd/%d/%s" % (self._place.fd, self._base))
            except (ConnectionRefusedError, FileNotFoundError):
                return False
            except BlockingIOError:
                return True
            return True

    @property
    def bind(self) -> str:
        """What gRPC is to listen at; short, however long the path is."""
        return f"unix:/proc/self/fd/{self._place.fd}/{os.fsdecode(self._draft)}/{os.fsdecode(_NAME)}"

    @property
    def inner(self) -> bytes:
        """The path of the socket before it is published, for connections from this process."""
        return b"/proc/self/fd/%d/%s/%s" % (self._place.fd, self._draft, _NAME)

    def publish(self) -> None:
        """Give the bound socket its mode and its address."""
        os.chmod(self.inner, self._mode)  # in a directory that nobody else can enter
        st = os.stat(self.inner, follow_symlinks=False)
        self._made = (st.st_dev, st.st_ino)
        os.rename(self._draft + b"/" + _NAME, self._base, src_dir_fd=self._place.fd, dst_dir_fd=self._place.fd)
        os.rmdir(self._draft, dir_fd=self._place.fd)

    def close(self) -> None:
        """Remove the socket, if it is still ours, and let go of the address."""
        with suppress(FileNotFoundError):
            st = os.stat(self._base, dir_fd=self._place.fd, follow_symlinks=False)
            if self._made == (st.st_dev, st.st_ino):
                os.unlink(self._base, dir_fd=self._place.fd)
        for remove, name in ((os.unlink, self._draft + b"/" + _NAME), (os.rmdir, self._draft)):
            with suppress(FileNotFoundError):
                remove(name, dir_fd=self._place.fd)
        if self._lock >= 0:
            os.unlink(self._base + LOCK, dir_fd=self._place.fd)
            os.close(self._lock)
        os.close(self._place.fd)
