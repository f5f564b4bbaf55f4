"""What errno cannot say.

    LayerfsError            errno        shown as `layerfs: MESSAGE (hint: HINT)`, exit 1
    |- InvalidArgument      EINVAL       impossible stack, bad digest
    |  `- WrongUsage        EINVAL       a command line that makes no sense, exit 2
    |- NotFound             ENOENT       no such layer, snapshot, driver, mount
    |- AlreadyExists        EEXIST       key or name taken
    |- NotReady             EBUSY        work directory in use, parent not committed
    |- Unsupported          EOPNOTSUPP   the host lacks a feature: name it, say what to do
    `- Corrupt              EIO          digest or on-disk structure wrong

Below the edges `OSError` is the vocabulary; these are for the sentence a person reads.
"""

import errno
from typing import Final

FULL: Final = (errno.ENOSPC, errno.EDQUOT)  # no room, for all or for this user
MAKE_ROOM: Final = "remove something there; `layerfs store gc` gives back what is not needed"


class LayerfsError(Exception):
    """An error with one clear sentence and, where there is one, a next step."""

    errno = errno.EIO

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} (hint: {self.hint})" if self.hint else self.message


class InvalidArgument(LayerfsError):
    """An unknown option or a stack that cannot be mounted."""

    errno = errno.EINVAL


class WrongUsage(InvalidArgument):
    """A command line or a mount option that makes no sense, whatever the host holds."""


class NotFound(LayerfsError):
    """A layer, snapshot, driver or mount that is not there."""

    errno = errno.ENOENT


class AlreadyExists(LayerfsError):
    """A key or name that is taken."""

    errno = errno.EEXIST


class NotReady(LayerfsError):
    """Something that is in use, or whose parent is not committed."""

    errno = errno.EBUSY


class Unsupported(LayerfsError):
    """A feature that this host lacks; the hint says what to do."""

    errno = errno.EOPNOTSUPP


class Corrupt(LayerfsError):
    """A digest or an on-disk structure that is wrong."""

    errno = errno.EIO


def empty_path() -> WrongUsage:
    """Return the error for a path without a character, which must not be taken for the working directory."""
    return WrongUsage("a path is empty", "is a variable of the shell not set?")
