"""Credentials for registries: the files that docker and podman keep, and their credential helpers.

Looked at in this order: REGISTRY_AUTH_FILE, podman's auth.json, docker's config.json. The most exact entry of the first
file that has one counts.
"""

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from layerfs.errors import InvalidArgument

_HELPER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TOKEN: Final = "<token>"  # what a helper says as name of a user who has a refresh token
FILE_MAX: Final = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password, or a token that stands for both (`identity`)."""

    user: str
    secret: str
    identity: bool = False

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, ...)"

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()


def find_credentials(host: str, repository: str) -> Credentials | None:
    """Return what the user's files have for a repository; None for nobody. Raises InvalidArgument for a broken file."""
    for path in _files():
        config = _load(path)
        found = _by_helper(config, host) or _by_entry(config, host, repository)
        if found is not None:
            return found
    return None


def _files() -> Iterator[str]:
    if chosen := os.environ.get("REGISTRY_AUTH_FILE"):
        yield chosen
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield os.path.join(runtime, "containers/auth.json")
    home = os.path.expanduser("~")
    yield os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "containers/auth.json")
    yield os.path.join(os.environ.get("DOCKER_CONFIG") or os.path.join(home, ".docker"), "config.json")


def _load(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(FILE_MAX))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (ValueError, RecursionError):
        raise InvalidArgument(f"{path} is no JSON") from None
    return found if isinstance(found, dict) else {}


def _by_helper(config: dict[str, Any], host: str) -> Credentials | None:
    helpers = config.get("credHelpers")
    name = helpers.get(host) if isinstance(helpers, dict) else None
    name = name or config.get("credsStore")
    if not isinstance(name, str) or not _HELPER.fullmatch(name):
        return None
    command = [f"docker-credential-{name}", "get"]
    with suppress(FileNotFoundError, subprocess.TimeoutExpired, ValueError):
        done = subprocess.run(command, input=host.encode(), capture_output=True, timeout=60, check=False)
        found = json.loads(done.stdout) if done.returncode == 0 else {}
        if isinstance(found, dict) and found.get("Secret"):
            user = str(found.get("Username", ""))
            return Credentials(user, str(found["Secret"]), identity=user == _TOKEN)
    return None


def _by_entry(config: dict[str, Any], host: str, repository: str) -> Credentials | None:
    auths = config.get("auths")
    if not isinstance(auths, dict):
        return None
    by_place = {_place(key): entry for key, entry in auths.items() if isinstance(entry, dict)}
    place = f"{host}/{repository}"
    while place:
        if place in by_place and (found := _entry(by_place[place])) is not None:
            return found
        place = place.rpartition("/")[0]
    return None


def _place(key: str) -> str:
    """Return HOST[/PATH] of an entry's key; docker writes addresses with scheme and version."""
    key = re.sub(r"^https?://", "", key)
    return re.sub(r"/(v1|v2)?/?$", "", key)


def _entry(entry: dict[str, Any]) -> Credentials | None:
    if entry.get("identitytoken"):
        return Credentials(_TOKEN, str(entry["identitytoken"]), identity=True)
    try:
        user, colon, secret = base64.b64decode(str(entry.get("auth") or "")).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return Credentials(user, secret.rstrip("\0")) if colon else None
