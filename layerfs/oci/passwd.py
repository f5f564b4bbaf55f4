"""Users of an image, by what its own files say: never the host's, and opened without leaving the image.

`User` in a config is `user[:group]`, each a name or a number. Numbers are taken as they are, names must be there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from layerfs.errors import InvalidArgument
from layerfs.oci.tar import ID_MAX

FILE_MAX: Final = 1 << 20  # bytes; no passwd of an image is larger
LinesOf = Callable[[str], list[str]]  # the lines of etc/passwd or etc/group; none where there is no such file


@dataclass(frozen=True, slots=True)
class User:
    """Who runs a command."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


def resolve_user(text: str, lines: LinesOf) -> User:
    """Return what a config's `User` means. Raises InvalidArgument for a name that the image does not have."""
    user, colon, group = text.partition(":")
    entry = _entry(user or "0", lines("etc/passwd"), fields=7)
    uid = _number(user or "0")
    if uid is None and entry is not None:
        uid = _number(entry[2])
    if uid is None:
        raise InvalidArgument(f"the image has no user {user!r}")
    if colon and group:
        gid = _number(group)
        if gid is None and (found := _entry(group, lines("etc/group"), fields=3)) is not None:
            gid = _number(found[2])
        if gid is None:
            raise InvalidArgument(f"the image has no group {group!r}")
        return User(uid, gid, (), _home(entry))
    gid = _number(entry[3]) if entry is not None else 0
    if gid is None:
        raise InvalidArgument(f"the image gives user {user!r} no group", "name one: USER:GROUP")
    groups = _groups(entry[0], lines("etc/group")) if entry is not None else ()
    return User(uid, gid, groups, _home(entry))


def _home(entry: list[str] | None) -> str:
    return entry[5] if entry is not None and entry[5].startswith("/") else "/"


def _entry(word: str, lines: list[str], fields: int) -> list[str] | None:
    """Return the line of a name, or of a number."""
    number = _number(word)
    for line in lines:
        parts = line.split(":")
        if len(parts) < fields or _number(parts[2]) is None:
            continue
        if _number(parts[2]) == number if number is not None else parts[0] == word:
            return parts
    return None


def _groups(name: str, lines: list[str]) -> tuple[int, ...]:
    found = []
    for line in lines:
        parts = line.split(":")
        if len(parts) >= 4 and name in parts[3].split(",") and (number := _number(parts[2])) is not None:
            found.append(number)
    return tuple(found[:65536])  # NGROUPS_MAX


def _number(word: str) -> int | None:
    if not word.isascii() or not word.isdigit() or len(word) > 10:
        return None
    number = int(word)
    return number if number <= ID_MAX else None
