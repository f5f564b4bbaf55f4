"""Numbers in the marks of layers, parsed within bounds; anything else is None. Layers are not trusted.

Python's int() takes a sign, blanks, underscores and other scripts' digits, and any length; a layer is a stranger's.
"""

from typing import Final

MAX_ID: Final = (1 << 32) - 2  # of users and groups; 2^32 - 1 means "none" to chown(2)
MAX_MODE: Final = 0o177777  # st_mode, its type included
MAX_MAJOR: Final = (1 << 12) - 1  # linux/kdev_t.h: MINORBITS is 20
MAX_MINOR: Final = (1 << 20) - 1
FIRST: Final = 2  # numbers of nodes 0 and 1 mean "none" and "the root" to FUSE
KEPT_MAX: Final = (1 << 62) - 1  # the largest number that an object may keep
_DIGITS: Final = 20  # of 2^64; a few zeros before it do no harm


def decimal(text: bytes, largest: int) -> int | None:
    """Return the number that a text of decimal digits is; None for anything else, and beyond `largest`."""
    if not text.isdigit() or len(text) > _DIGITS:
        return None
    number = int(text)
    return number if number <= largest else None


def octal(text: bytes, largest: int) -> int | None:
    """Return the number that a text of octal digits is; None for anything else, and beyond `largest`."""
    if not text.isdigit() or len(text) > _DIGITS or text.strip(b"01234567"):
        return None
    number = int(text, 8)
    return number if number <= largest else None


def kept(text: bytes) -> int | None:
    """Read a number that an upper kept; None for what can be no node's, or is the root's."""
    number = decimal(text, KEPT_MAX)
    return None if number is None or number < FIRST else number
