"""Log lines that a terminal may be shown: names in them were made by others."""

import copy
import logging
import os
from io import TextIOWrapper

from layerfs.sys.terminal import one_line

LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Printable(logging.Formatter):
    """A formatter whose messages are one printable line each; a traceback below has lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        shown = copy.copy(record)
        shown.msg, shown.args = one_line(record.getMessage()), None
        return "\n".join(map(one_line, super().format(shown).split("\n")))


def to_stderr(form: str = LINE, level: int = logging.WARNING) -> None:
    """Log to stderr, from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(Printable(form))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def private_file(path: str, size: int) -> logging.Handler:
    """Log to a file that only its owner may use, whatever the umask is; a first line makes it.

    At `size` [bytes] it becomes PATH.1, and a new one begins.
    """
    from logging.handlers import RotatingFileHandler  # with all its siblings: only for servers

    class Private(RotatingFileHandler):
        def _open(self) -> TextIOWrapper:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            os.fchmod(fd, 0o600)
            return os.fdopen(fd, "a", encoding=self.encoding, errors=self.errors)

    return Private(path, maxBytes=size, backupCount=1, encoding="utf-8", errors="backslashreplace", delay=True)
