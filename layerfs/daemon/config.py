"""The daemon's configuration: TOML, every key checked; the command line counts before it.

    root = "/var/lib/layerfs"                 the store
    address = "/run/layerfs/layerfs.sock"     the unix socket for containerd
    snapshotter = "auto"                      for requests that name none, and for the name `layerfs`
    containerd = "/run/containerd/containerd.sock"   where the diff service reads and writes layers; "" for none
    metrics = "127.0.0.1:9810"                numbers for Prometheus, and a page; "" for none
    log_level = "info"                        debug, info, warning, error
    cleanup_seconds = 60                      how often what removed snapshots took is given back; 0 for on request

SIGHUP reads it again: log_level, cleanup_seconds and snapshotter take effect at once, the others at the next start.
"""

import os
import tomllib
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Self

from layerfs.errors import InvalidArgument, NotFound
from layerfs.snapshots.library import default_root
from layerfs.sys.namespaces import in_user_namespace

LEVELS: Final = ("debug", "info", "warning", "error")
LIVE: Final = ("snapshotter", "log_level", "cleanup_seconds")


@dataclass(frozen=True, slots=True)
class Config:
    """What the daemon is told; see the top of this file."""

    root: str = ""
    address: str = ""
    snapshotter: str = "auto"
    containerd: str = "/run/containerd/containerd.sock"
    metrics: str = ""
    log_level: str = "info"
    cleanup_seconds: int = 60

    @classmethod
    def read(cls, path: bytes | None, overrides: dict[str, Any]) -> Self:
        """Return the configuration in a file, where there is one, with what the command line says.

        Raises NotFound, InvalidArgument naming the key.
        """
        found = _load(path) if path else {}
        known = {field.name for field in fields(cls)}
        for key in found:
            if key not in known:
                raise _unknown(key, known, path)
        merged = found | {key: value for key, value in overrides.items() if value is not None}
        return cls._checked(merged)

    @classmethod
    def _checked(cls, values: dict[str, Any]) -> Self:
        for field in fields(cls):
            value = values.get(field.name, field.default)
            if type(value) is not type(field.default):
                wanted = "a whole number" if isinstance(field.default, int) else "a text in quotes"
                raise InvalidArgument(f"{field.name} = {value!r} in the configuration", f"{field.name} takes {wanted}")
        config = cls(**values)
        if config.log_level not in LEVELS:
            raise InvalidArgument(f"log_level = {config.log_level!r}", f"one of {', '.join(LEVELS)}")
        if not 0 <= config.cleanup_seconds <= 86_400:
            raise InvalidArgument(f"cleanup_seconds = {config.cleanup_seconds}", "from 0 to 86400")
        if config.metrics and not config.metrics.rpartition(":")[2].isdigit():
            raise InvalidArgument(f"metrics = {config.metrics!r}", "HOST:PORT, such as 127.0.0.1:9810")
        root = config.root or os.fsdecode(default_root())
        try:
            os.fsencode(root).decode()
        except UnicodeDecodeError:
            raise InvalidArgument(f"the store's path {root!r} is not UTF-8", "gRPC can send no other") from None
        return replace(config, root=os.path.abspath(root), address=config.address or default_address())

    def reread(self, other: "Config") -> "Config":
        """Return this configuration with what may change while the daemon runs."""
        return replace(self, **{name: getattr(other, name) for name in LIVE})


def default_address() -> str:
    """Return where the socket is: root's below /run, a user's (also as root of a namespace) in XDG_RUNTIME_DIR."""
    whole = os.geteuid() == 0 and not in_user_namespace()
    base = "/run" if whole else os.environ.get("XDG_RUNTIME_DIR", "/run")
    return os.path.join(base, "layerfs", "layerfs.sock")


def _load(path: bytes) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise NotFound(f"there is no configuration {os.fsdecode(path)}", "check the path of --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{os.fsdecode(path)}: {error}", "it is TOML, KEY = VALUE a line") from None


def _unknown(key: str, known: set[str], path: bytes | None) -> InvalidArgument:
    from difflib import get_close_matches

    near = get_close_matches(key, known, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(sorted(known))}"
    return InvalidArgument(f'unknown key "{key}" in {os.fsdecode(path or b"the configuration")}', hint)
