"""The values of mount options, read one by one: each reader takes an option's name and its value, None for a bare name.

Raises WrongUsage, which says what the option takes.
"""

import os
import re
from collections.abc import Callable
from typing import Any, Final

from layerfs.errors import WrongUsage
from layerfs.union.options import IdRange

MAX_OFFSET: Final = 2**63 - 1  # bytes; loff_t
MAX_ID: Final = 2**32 - 2  # (uid_t) -1 is nobody at all (chown(2))
MAX_SECONDS: Final = 2**31  # 68 years: for ever, and the kernel adds it to a clock of ours
DIGITS: Final = 20  # of the longest number


def split(string: bytes, separator: bytes, *, quotes: bool = True) -> list[bytes]:
    """Split at separators that no backslash escapes and that are in no `NAME="VALUE"`; the escapes stay.

    The quotes are mount(8)'s, for SELinux contexts with commas in them; kernel overlayfs has none.
    """
    if b"\\" not in string and b'"' not in string:
        return string.split(separator)
    quoted = rb'="[^"]*"|' if quotes else b""
    return re.findall(rb"(?:\\.|" + quoted + rb"[^\\" + separator + rb"]|\\$)+", string, re.DOTALL)


def unescape(string: bytes) -> bytes:
    """Take out one level of backslashes."""
    return re.sub(rb"\\(.)", rb"\1", string, flags=re.DOTALL) if b"\\" in string else string


def bad_value(name: str, value: bytes | None, wanted: str) -> WrongUsage:
    """Return the error for a value that an option cannot have; `wanted` says what it takes."""
    shown = f"{name}={os.fsdecode(value)}" if value is not None else name
    return WrongUsage(f'bad mount option "{shown}"', f"{name} takes {wanted}")


def read_path(name: str, value: bytes | None) -> bytes:
    """Return a path as it was given; there must be one."""
    if not value:
        raise bad_value(name, value, "a directory")
    return value


def read_present(name: str, value: bytes | None) -> bool:
    """Return True for an option that has no value, or 1."""
    if value not in (None, b"", b"1"):
        raise bad_value(name, value, "no value")
    return True


def read_absent(name: str, value: bytes | None) -> bool:
    """Return False for such an option."""
    return not read_present(name, value)


def number_between(low: int, high: int) -> Callable[[str, bytes | None], int]:
    """Return a converter for whole decimal numbers from `low` to `high`."""

    def convert(name: str, value: bytes | None) -> int:
        if value is None or not _is_number(value) or not low <= int(value) <= high:
            raise bad_value(name, value, f"a number from {low} to {high}")
        return int(value)

    return convert


def _is_number(value: bytes) -> bool:
    """Tell whether int() may be asked: digits, and not so many that it refuses (a limit of Python's own)."""
    return value.isdigit() and len(value) <= DIGITS


def read_seconds(name: str, value: bytes | None) -> float:
    """Return seconds, which may have a fraction."""
    if value is None or not re.fullmatch(rb"\d+(\.\d*)?|\.\d+", value) or float(value) > MAX_SECONDS:
        raise bad_value(name, value, f"seconds, such as 1.5, up to {MAX_SECONDS}")
    return float(value)


def one_of(choices: dict[str, Any]) -> Callable[[str, bytes | None], Any]:
    """Return a converter for a word; the choice "" stands for the bare name."""

    def convert(name: str, value: bytes | None) -> Any:
        word = os.fsdecode(value or b"")
        if word not in choices:
            raise bad_value(name, value, " or ".join(choice for choice in choices if choice))
        return choices[word]

    return convert


def read_id_ranges(name: str, value: bytes | None) -> tuple[IdRange, ...]:
    """Read triples ON-DISK:SHOWN:COUNT, which is fuse-overlayfs's order (tried); podman begins with a colon."""
    words = re.split(rb"[:,]", (value or b"").strip(b":"))
    if words == [b""]:
        return ()
    if len(words) % 3 or not all(_is_number(word) and int(word) <= MAX_ID for word in words):
        raise bad_value(name, value, "ON-DISK:SHOWN:COUNT[:ON-DISK:SHOWN:COUNT...]")
    numbers = [int(word) for word in words]
    return tuple(
        IdRange(inside=shown, outside=disk, count=count)
        for disk, shown, count in zip(*[iter(numbers)] * 3, strict=True)
        if count
    )
