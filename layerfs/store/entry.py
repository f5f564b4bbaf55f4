"""One entry of a package cache: what is known of it, whether it can be trusted, and that it is in use."""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from layerfs.errors import InvalidArgument
from layerfs.store.info import NOTHING
from layerfs.store.session import boot
from layerfs.sys.files import open_regular
from layerfs.value import fields_of, value

FACTS: Final = b".entry.json"
USED: Final = b".used"
SOUND: Final = b".verified"
_LONGEST: Final = 1 << 20  # bytes of .entry.json; a header has 8192, and a digest for each of its dependencies


@value
class CacheEntry:
    """One package in a cache; `size` in bytes, `added` in seconds since 1970, `depends` from names to SHA-256s."""

    path: bytes
    version: str
    uuid: str
    size: int
    xxh3: str
    sha256: str
    added: float
    depends: Mapping[str, str] = NOTHING

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

        facts = {key: getattr(self, key) for key in fields_of(self) if key != "path"}
        return json.dumps(facts | {"depends": dict(self.depends)}, indent=1).encode()


def touch(name: bytes, directory: int) -> None:
    """Set the mtime of a file in an open directory to now; make the file if it is missing. A refusal is no error."""
    with suppress(OSError):
        with suppress(FileNotFoundError):
            os.utime(name, dir_fd=directory, follow_symlinks=False)
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=directory))


def read_small(name: bytes, directory: int, most: int) -> bytes:
    """Read the first `most` bytes of a file in an open directory; symlinks are not followed. Raises OSError."""
    fd = open_regular(name, os.O_RDONLY | os.O_NOFOLLOW, at=directory)
    try:
        return os.read(fd, most)
    finally:
        os.close(fd)


def read_entry(directory: int, path: bytes, sha256: str) -> CacheEntry:
    """Return the entry in an open directory, whose package is at `path`.

    Raises ValueError if its .entry.json is none, OSError.
    """
    import json

    facts = json.loads(read_small(FACTS, directory, _LONGEST))
    kinds = {"version": str, "uuid": str, "size": int, "xxh3": str, "sha256": str, "added": float, "depends": dict}
    if not isinstance(facts, dict) or facts.keys() != kinds.keys():
        raise ValueError("other keys than an entry has")
    wrong = [key for key, kind in kinds.items() if not isinstance(facts[key], kind)]
    if wrong or facts["sha256"] != sha256:
        raise ValueError(f"{wrong[0] if wrong else 'sha256'} is wrong")
    return CacheEntry(path=path, **facts)


def is_ours(st: os.stat_result) -> bool:
    """Tell whether nobody but root and this user can have written to a file."""
    return st.st_uid in (0, os.geteuid()) and not st.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def unsafe(path: bytes, why: str) -> InvalidArgument:
    """Return the error for a directory on the way to a cache, or in it, that another user may change."""
    return InvalidArgument(
        f"{os.fsdecode(path)} is not safe for a package cache: it {why}; only root and you may be able to change it",
        "see who put it there; then remove it, or take another cache with LAYERFS_CACHE=DIR",
    )


def stamp(st: os.stat_result) -> bytes:
    """Return a line that differs after any change to the file, and after each boot."""
    numbers = (st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
    return boot() + b" %d %d %d %d %d\n" % numbers
