"""The daemon's configuration: TOML, every key checked; the command line counts before it. The keys, with examples:

    root = "/var/lib/layerfs"                 the store
    address = "/run/layerfs/layerfs.sock"     the unix socket for containerd
    snapshotter = "auto"                      for requests that name none, and for the name `layerfs`
    containerd = "/run/containerd/containerd.sock"   where the diff service reads and writes layers; "" for none
    metrics = "127.0.0.1:9810"                numbers for Prometheus, and a page; "" for none
    log_level = "info"                        debug, info, warning, error
    cleanup_seconds = 60                      how often what removed snapshots took is given back; 0 for on request

SIGHUP reads it again: log_level, cleanup_seconds and snapshotter take effect at once, the others at the next start.
Only the daemon's user and root may be able to write the file: who writes it says where root's store is.
"""

import os
import re
import stat
import tomllib
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Self

from layerfs.errors import InvalidArgument, NotFound
from layerfs.snapshots import registry
from layerfs.snapshots.library import AUTO, default_root
from layerfs.sys.namespaces import in_user_namespace
from layerfs.sys.trust import wrong

LARGEST: Final = 1 << 16  # bytes; all keys take less than 1,000
LEVELS: Final = ("debug", "info", "warning", "error")
PREFIX: Final = "layerfs-"  # of the names by which containerd knows the drivers
ANY: Final = "layerfs"  # the best that the host can run
_PORTS: Final = 65_535
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
            if isinstance(value, str) and "\0" in value:
                raise InvalidArgument(f"{field.name} = {value!r} in the configuration", "no text may hold a NUL")
        config = cls(**values)
        _check_snapshotter(config.snapshotter)
        if config.log_level not in LEVELS:
            raise InvalidArgument(f"log_level = {config.log_level!r}", f"one of {', '.join(LEVELS)}")
        if not 0 <= config.cleanup_seconds <= 86_400:
            raise InvalidArgument(f"cleanup_seconds = {config.cleanup_seconds}", "from 0 to 86400")
        if config.metrics:
            host_and_port(config.metrics)
        root = config.root or os.fsdecode(default_root())
        try:
            os.fsencode(root).decode()
        except UnicodeDecodeError:
            raise InvalidArgument(f"the store's path {root!r} is not UTF-8", "gRPC can send no other") from None
        return replace(config, root=os.path.abspath(root), address=config.address or default_address())

    def reread(self, other: "Config") -> "Config":
        """Return this configuration with what may change while the daemon runs."""
        return replace(self, **{name: getattr(other, name) for name in LIVE})


def driver_of(snapshotter: str) -> str:
    """Return the driver that a snapshotter's name means: `layerfs-xar` and `xar` are one, `layerfs` is `auto`."""
    return AUTO if snapshotter in ("", ANY) else snapshotter.removeprefix(PREFIX)


def _check_snapshotter(name: str) -> None:
    known = registry.names()
    if driver_of(name) not in (AUTO, *known):
        raise InvalidArgument(f"snapshotter = {name!r}", f"one of {', '.join([AUTO, *known])}")


def host_and_port(address: str) -> tuple[str, int]:
    """Return what HOST:PORT says; an IPv6 address stands in brackets. Raises InvalidArgument.

    There is no default for the host: the numbers are for everybody who can reach it.
    """
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})", address)
    if not found or int(found[3]) > _PORTS:
        raise InvalidArgument(f"metrics = {address!r}", "HOST:PORT, such as 127.0.0.1:9810 or [::1]:9810")
    return found[1] or found[2], int(found[3])


def default_address() -> str:
    """Return where the socket is: root's below /run, a user's (also as root of a namespace) in XDG_RUNTIME_DIR."""
    whole = os.geteuid() == 0 and not in_user_namespace()
    base = "/run" if whole else os.environ.get("XDG_RUNTIME_DIR", "/run")
    return os.path.join(base, "layerfs", "layerfs.sock")


def _load(path: bytes) -> dict[str, Any]:
    shown = os.fsdecode(path)
    try:
        return tomllib.loads(_read(path).decode())
    except FileNotFoundError:
        raise NotFound(f"there is no configuration {shown}", "check the path of --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{shown}: {error}", "it is TOML, KEY = VALUE a line") from None
    except RecursionError:
        raise InvalidArgument(f"{shown}: values in values in values", "it is TOML, KEY = VALUE a line") from None


def _read(path: bytes) -> bytes:
    """Return what is in a configuration. Raises InvalidArgument for one that is no file, too large, or somebody's."""
    shown = os.fsdecode(path)
    with open(path, "rb", opener=_opened_at_once) as file:
        st = os.fstat(file.fileno())
        if not stat.S_ISREG(st.st_mode) or st.st_size > LARGEST:
            raise InvalidArgument(f"{shown} is no file, or has more than {LARGEST} bytes", "check the path of --config")
        # In a user namespace of one id, root's files belong to nobody, as / does.
        if why := wrong(st, {0, os.geteuid(), os.stat("/").st_uid}, sticky=False):
            raise InvalidArgument(f"the configuration {shown} {why}", f"chmod go-w {shown}, or chown it")
        return file.read(LARGEST)


def _opened_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # the other end of a FIFO is not waited for


def _unknown(key: str, known: set[str], path: bytes | None) -> InvalidArgument:
    from difflib import get_close_matches

    near = get_close_matches(key, known, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(sorted(known))}"
    return InvalidArgument(f'unknown key "{key}" in {os.fsdecode(path or b"the configuration")}', hint)
