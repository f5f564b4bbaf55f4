"""One entry of a package cache: what is known of it, whether it can be trusted, and that it is in use."""

import fcntl
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Final

from layerfs.errors import InvalidArgument, NotFound

FACTS: Final = b".entry.json"
USED: Final = b".used"
SOUND: Final = b".verified"


@dataclass(frozen=True, slots=True)
class Entry:
    """One package in a cache; `size` in bytes, `added` in seconds since 1970, `depends` from names to SHA-256s."""

    path: bytes
    version: str
    uuid: str
    size: int
    xxh3: str
    sha256: str
    added: float
    depends: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> bytes:
        """The package's file name, by which others depend on it."""
        return os.path.basename(self.path)

    @property
    def directory(self) -> bytes:
        """Where the entry is."""
        return os.path.dirname(self.path)

    @property
    def used(self) -> float:
        """When it was last used, in seconds since 1970: as recorded, or as its atime tells (others cannot record)."""
        times = [self.added]
        with suppress(FileNotFoundError):
            times.append(os.stat(self.path).st_atime)
            times.append(os.stat(os.path.join(self.directory, USED)).st_mtime)
        return max(times)

    def facts(self) -> bytes:
        """Return what .entry.json holds."""
        import json  # not needed by those who only look whether a path is an entry's

        return json.dumps({key: value for key, value in asdict(self).items() if key != "path"}, indent=1).encode()


def hold(path: bytes, *, wait: bool = False) -> int:
    """Return a descriptor that keeps `gc` from evicting a file of a cache for as long as it is open.

    Only with `wait` it waits for a `gc` that has its eye on the file: a lock of that kind may be anybody's, in a cache
    that all may read. Raises NotFound if it was just evicted, and OSError.
    """
    evicted = NotFound(f"{os.fsdecode(path)} was evicted just now", "add it again")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise evicted from None
    with suppress(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_SH | (0 if wait else fcntl.LOCK_NB))
    if os.fstat(fd).st_nlink == 0:
        os.close(fd)
        raise evicted
    return fd


def touch(path: bytes) -> None:
    """Set a file's mtime to now, and make it if need be; who may not write leaves it as it is."""
    with suppress(OSError):
        with suppress(FileNotFoundError):
            os.utime(path, follow_symlinks=False)
            return
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644))


def read_entry(path: bytes, sha256: str) -> Entry:
    """Return the entry of a package from the .entry.json beside it; raises ValueError if that is none, OSError."""
    import json

    with open(os.path.join(os.path.dirname(path), FACTS), "rb") as file:
        facts = json.loads(file.read())
    kinds = {"version": str, "uuid": str, "size": int, "xxh3": str, "sha256": str, "added": float, "depends": dict}
    if not isinstance(facts, dict) or facts.keys() != kinds.keys():
        raise ValueError("other keys than an entry has")
    wrong = [key for key, kind in kinds.items() if not isinstance(facts[key], kind)]
    if wrong or facts["sha256"] != sha256:
        raise ValueError(f"{wrong[0] if wrong else 'sha256'} is wrong")
    return Entry(path=path, **facts)


def is_ours(st: os.stat_result) -> bool:
    """Tell whether only root and this user can have put anything there."""
    return st.st_uid in (0, os.geteuid()) and not st.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def unsafe(path: bytes) -> InvalidArgument:
    st = os.stat(path, follow_symlinks=False)
    return InvalidArgument(
        f"{os.fsdecode(path)} in a package cache is not safe: it is not a directory or file of root's or yours that "
        f"nobody else can write to (uid {st.st_uid}, mode {stat.S_IMODE(st.st_mode):04o})",
        "see who put it there; then remove it, or take another cache with LAYERFS_CACHE=DIR",
    )


def stamp(st: os.stat_result) -> bytes:
    """Return what tells a file from itself after any change."""
    numbers = (st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
    return boot() + b" %d %d %d %d %d\n" % numbers


@cache
def boot() -> bytes:
    """Return what no two boots of a machine share."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read().strip()
