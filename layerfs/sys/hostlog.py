"""The host's own log: /dev/log, where journald or a syslog daemon listens (syslog(3), systemd-journald.service(8)).

A line there never waits, and never fails whoever writes it: what nobody takes goes elsewhere.
"""

import logging
import os
import socket
from typing import Final

from layerfs.sys.logform import Printable

SOCKET: Final = b"/dev/log"
LONGEST: Final = 1024  # bytes of a message that every daemon takes (RFC 3164, 4.1)
_DAEMON: Final = 3  # the facility
_SEVERITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG: Final = 7
_FORM: Final = "%(name)s: %(message)s"  # the daemon adds when and which process


class HostLog(logging.Handler):
    """Writes each line to the host's log, or gives the whole record to `otherwise` where that takes it not at once."""

    def __init__(self, otherwise: logging.Handler, place: bytes = SOCKET) -> None:
        """`otherwise` has a formatter of its own; the socket at `place` may be absent now and come later."""
        super().__init__()
        self.setFormatter(Printable(_FORM))
        self._otherwise = otherwise
        self._place = place

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; nothing is raised."""
        try:
            self._send(record)
        except OSError:  # no daemon, another kind of socket, or a daemon that is behind
            self._otherwise.handle(record)
        except Exception:
            self.handleError(record)

    def _send(self, record: logging.LogRecord) -> None:
        head = b"<%d>layerfs[%d]: " % (_DAEMON << 3 | severity(record.levelno), os.getpid())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as speaker:
            speaker.connect(self._place)
            for line in self.format(record).split("\n"):
                speaker.send((head + line.encode("utf-8", "backslashreplace"))[:LONGEST])

    def close(self) -> None:
        """Close what takes the rest."""
        self._otherwise.close()
        super().close()


def severity(level: int) -> int:
    """Return the number that syslog(3) has for a level of `logging`."""
    return next((number for least, number in _SEVERITIES if level >= least), _DEBUG)
