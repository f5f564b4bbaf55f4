"""How an image's config says that it is run: command, environment, directory, user."""

import os
import stat
from dataclasses import dataclass
from typing import Any, Final

from layerfs.errors import Corrupt, InvalidArgument
from layerfs.oci.below import Below, resolve
from layerfs.oci.documents import Json
from layerfs.oci.passwd import FILE_MAX, User, resolve_user

PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Running:
    """What is run, and as whom."""

    command: tuple[str, ...]
    environment: tuple[str, ...]
    directory: str
    user: User


@dataclass(frozen=True, slots=True)
class Changes:
    """What the caller wants otherwise; empty is what the image says."""

    command: tuple[str, ...] = ()
    entrypoint: str | None = None
    environment: tuple[str, ...] = ()
    directory: str = ""
    user: str = ""


def running(config: Json, tree: Below, changes: Changes) -> Running:
    """Return how an image is run. Raises InvalidArgument if there is nothing to run, or no such user."""
    entrypoint = (
        _texts(config, "Entrypoint") if changes.entrypoint is None else [changes.entrypoint][: bool(changes.entrypoint)]
    )
    command = list(changes.command) or (_texts(config, "Cmd") if changes.entrypoint is None else [])
    words = (*entrypoint, *command)
    if not words:
        raise InvalidArgument("the image says nothing of what to run", "give a command after `--`")
    user = resolve_user(changes.user or _text(config, "User"), lambda path: _lines(tree, path))
    environment = {entry.partition("=")[0]: entry for entry in (PATH, f"HOME={user.home}")}
    for entry in (*_texts(config, "Env"), *changes.environment):
        name, equals, _ = entry.partition("=")
        if name and equals:
            environment[name] = entry
    directory = changes.directory or _text(config, "WorkingDir") or "/"
    return Running(words, tuple(environment.values()), os.path.join("/", directory), user)


def _texts(config: Json, key: str) -> list[str]:
    found: Any = config.get(key) or []
    if not isinstance(found, list) or not all(isinstance(word, str) and "\0" not in word for word in found):
        raise Corrupt(f"the image's config has {key} that is no list of texts")
    return found


def _text(config: Json, key: str) -> str:
    found: Any = config.get(key) or ""
    if not isinstance(found, str) or "\0" in found:
        raise Corrupt(f"the image's config has {key} that is no text")
    return found


def _lines(tree: Below, path: str) -> list[str]:
    """Return a small file's lines, symlinks followed within the tree; none where there is no regular file."""
    data = read_file(tree, path.encode())
    return [] if data is None else data.decode("utf-8", "surrogateescape").splitlines()


def read_file(tree: Below, path: bytes) -> bytes | None:
    """Return a small regular file of a tree; None if there is none. Raises Corrupt for one that is too large."""
    found = resolve(tree, path)
    member = tree.find(found) if found is not None else None
    if member is None or found is None or member.kind != stat.S_IFREG:
        return None
    if member.size > FILE_MAX:
        raise Corrupt(f"/{os.fsdecode(path)} in the image has {member.size} bytes")
    return b"".join(tree.data(found))
