"""Log lines that a terminal may be shown: names in them were made by others."""

import copy
import logging

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
