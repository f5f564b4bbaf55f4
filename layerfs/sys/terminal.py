"""Text that holds names made by others, fit to be printed: the one function for all that a person reads.

A file name may hold any byte but `/` and NUL: sequences that a terminal obeys, ends of lines, bytes that are no text.
"""

import os
import sys
from typing import Any


def one_line(text: str) -> str:
    """Return a text as one line of printable characters.

    Whatever is not printable stands as an escape: controls (C0, DEL, C1), ends of lines, marks that turn the direction
    of writing, and bytes that are no UTF-8 (`os.fsdecode` makes them surrogates). A backslash stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    number = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no text
        return f"\\x{number - 0xDC00:02x}"
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def shell_word(path: bytes) -> str:
    """Return a path as one word of a command that a person copies into a shell."""
    import shlex  # few messages have a command

    text = os.fsdecode(path)
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_in_dollar_quotes, text)) + "'"


def _in_dollar_quotes(char: str) -> str:
    if char in "\\'":
        return "\\" + char
    return char if char.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))


def json_text(value: Any) -> str:
    """Return a value as JSON that a terminal may be shown: all controls are escaped, DEL too, which JSON need not."""
    import json

    return json.dumps(value, indent=2).replace("\x7f", "\\u007f")


def warn(text: str) -> None:
    """Print a warning to stderr, as one line."""
    print(f"layerfs: warning: {one_line(text)}", file=sys.stderr)
