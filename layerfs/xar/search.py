"""Finding the packages that a XAR's DEPENDENCIES name. The header has base names only; the search path decides.

    1. beside     the directory of the dependant, as it was named and where symlinks lead; for a dependant in a package
                  cache: the very packages that it was added with (`layerfs cache add --deps`)
    2. the path   each directory of LAYERFS_XAR_PATH, divided by colons; those that are not there are passed over
    3. the cache  the user's own, then the node's; asked only for what is neither beside nor on the path, because a
                  cache keeps what was current once

A name means one content. All that is found beside and on the path must have equal bytes, else the name is ambiguous and
is refused with its candidates: which of two versions is meant cannot be guessed, and the wrong one may seem to run.
Likewise in the caches, where several versions are common: a package that was added with --deps knows its own. The way
out is always the same: name the one that is meant as a layer, which counts before any search (graph.py).

Where anybody may put files (/tmp), a file beside counts only if it is root's, the caller's or the dependant's owner's.
"""

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple, Protocol

from layerfs.errors import InvalidArgument, LayerfsError, NotFound

VARIABLE: Final = b"LAYERFS_XAR_PATH"
CHOOSE: Final = "name the one that you mean as a layer, below what depends on it"
_SUPPLY: Final = "put it beside what needs it, name its directory in LAYERFS_XAR_PATH, or `layerfs cache add` it"


class CacheEntry(Protocol):
    """A package in a cache, as far as a search looks at it (`layerfs.store.entry.CacheEntry`)."""

    @property
    def path(self) -> bytes: ...
    @property
    def sha256(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def depends(self) -> Mapping[str, str]: ...


class Cache(Protocol):
    """A package cache, as far as a search asks it (`layerfs.store.cache.Cache`)."""

    @property
    def root(self) -> bytes: ...
    def entry_at(self, path: bytes) -> CacheEntry | None: ...
    def versions(self, name: bytes) -> Sequence[CacheEntry]: ...
    def get(self, name: bytes, sha256: str) -> CacheEntry | None: ...
    def checked(self, entry: Any) -> bytes: ...


class Candidate(NamedTuple):
    """A file that has the name; identity is (st_dev, st_ino)."""

    path: bytes
    identity: tuple[int, int]
    size: int


class MissingPackage(NotFound):
    """A package that is in none of the places."""

    def __init__(self, name: bytes, dependant: bytes, searched: Sequence[str]) -> None:
        self.need = f"{os.fsdecode(name)}, which {os.fsdecode(os.path.basename(dependant))} depends on"
        self.searched = searched
        super().__init__(f"there is no {self.need}; searched: {', '.join(searched)}", _SUPPLY)

    @classmethod
    def of_all(cls, missing: "Sequence[MissingPackage]") -> NotFound:
        """Return one error for all that is missing."""
        if len(missing) == 1:
            return missing[0]
        searched = ", ".join(dict.fromkeys(place for error in missing for place in error.searched))
        return NotFound(f"there is no {'; no '.join(e.need for e in missing)}; searched: {searched}", _SUPPLY)


class Search:
    """The search path, and the files compared so far, which are taken not to change during the search."""

    def __init__(self, path: Iterable[bytes] = (), caches: Callable[[], Sequence[Cache]] = list) -> None:
        self._path = tuple(path)
        self._list_caches = caches  # later: most packages depend on nothing
        self._equal: dict[frozenset[tuple[int, int]], bool] = {}

    @classmethod
    def from_environment(cls, caches: Callable[[], Sequence[Cache]]) -> "Search":
        """Return a search along the environment's path; `caches` lists the caches once they are needed."""
        cwd = os.getcwdb()
        words = os.environb.get(VARIABLE, b"").split(b":")
        return cls([os.path.join(cwd, word) for word in words if word], caches)

    def find(self, name: bytes, dependant: bytes) -> bytes:
        """Return the path of the package that a dependant [absolute path] means by a name.

        Raises MissingPackage, InvalidArgument where the name is ambiguous, Corrupt for a damaged cache entry.
        """
        entry = next(filter(None, (cache.entry_at(dependant) for cache in self._caches)), None)
        found = [self._added_with(entry, name)] if entry and os.fsdecode(name) in entry.depends else []
        searched: list[str] = []
        for directory, shown in self._directories(None if entry else dependant).items():
            searched.append(shown)
            candidate = look(directory, name)
            if candidate is not None:
                _refuse_stranger(candidate, directory, dependant)
                found.append(candidate)
        if found:
            return self._one_of(found, name, dependant)
        searched += [f"the cache {os.fsdecode(cache.root)}" for cache in self._caches]
        cached = self._cached(name, dependant)
        if cached is None:
            raise MissingPackage(name, dependant, searched)
        return cached

    def equal(self, one: Candidate, other: Candidate) -> bool:
        """Tell whether two files are one or have the same bytes."""
        if one.identity == other.identity or one.size != other.size:
            return one.identity == other.identity
        key = frozenset((one.identity, other.identity))
        if key not in self._equal:
            self._equal[key] = _compare(one.path, other.path)
        return self._equal[key]

    @cached_property
    def _caches(self) -> Sequence[Cache]:
        return self._list_caches()

    def _directories(self, dependant: bytes | None) -> dict[bytes, str]:
        """Return the directories to look in, in order, with how to call them; beside the dependant if it is given."""
        beside = [os.path.dirname(dependant), os.path.dirname(os.path.realpath(dependant))] if dependant else []
        path = {directory: f"{os.fsdecode(directory)} (LAYERFS_XAR_PATH)" for directory in self._path}
        return {directory: os.fsdecode(directory) for directory in beside} | path

    def _added_with(self, dependant: CacheEntry, name: bytes) -> Candidate:
        """Return the package that a cache's entry was added with under a name."""
        digest = dependant.depends[os.fsdecode(name)]
        entries = ((cache, cache.get(name, digest)) for cache in self._caches)
        for cache, entry in entries:
            if entry is not None:
                return _candidate(cache.checked(entry))
        where = f"the cache, for the one with which it was added (SHA-256 {digest[:12]}...)"
        raise MissingPackage(name, dependant.path, [where])

    def _cached(self, name: bytes, dependant: bytes) -> bytes | None:
        """Return the only content that the caches have under a name; None if they have none."""
        found = {entry.sha256: (cache, entry) for cache in reversed(self._caches) for entry in cache.versions(name)}
        if len(found) > 1:
            kinds = [f"version {entry.version or '-'} ({entry.sha256[:12]})" for _, entry in found.values()]
            raise InvalidArgument(
                f"{_need(name, dependant)} is ambiguous: the cache has {', '.join(sorted(kinds))}",
                f"{CHOOSE} (`layerfs cache path NAME=VERSION`), or add what needs it with `layerfs cache add --deps`",
            )
        return next((cache.checked(entry) for cache, entry in found.values()), None)

    def _one_of(self, found: list[Candidate], name: bytes, dependant: bytes) -> bytes:
        first = found[0]
        others = [candidate for candidate in found[1:] if not self.equal(first, candidate)]
        if others:
            raise ambiguous(_need(name, dependant), [first, *others])
        return first.path


def look(directory: bytes, name: bytes) -> Candidate | None:
    """Return the regular file of a name in a directory, through symlinks; None if there is none. Raises OSError."""
    path = os.path.join(directory, name)
    try:
        st = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):  # as good as absent: the directory need not be one
        return None
    return Candidate(path, (st.st_dev, st.st_ino), st.st_size) if stat.S_ISREG(st.st_mode) else None


def ambiguous(what: str, found: Sequence[Candidate]) -> InvalidArgument:
    """Return the error for a name with different contents, which names all of them."""
    shown = dict.fromkeys(f"{os.fsdecode(candidate.path)}{_version(candidate.path)}" for candidate in found)
    return InvalidArgument(f"{what} is ambiguous: {' and '.join(shown)} differ", f"{CHOOSE}, or take the others away")


def _candidate(path: bytes) -> Candidate:
    st = os.stat(path)
    return Candidate(path, (st.st_dev, st.st_ino), st.st_size)


def _compare(one: bytes, other: bytes) -> bool:
    from layerfs.xar.digest import same_content

    with open(one, "rb") as first, open(other, "rb") as second:
        return same_content(first.fileno(), second.fileno())


def _version(path: bytes) -> str:
    """Return ` (version N)` for a XAR that says it; an unreadable header must not hide what is ambiguous."""
    from layerfs.xar.header import read_header
    from layerfs.xar.image_file import is_xar

    try:
        with open(path, "rb") as file:
            version = read_header(file.fileno(), path).version if is_xar(file.fileno()) else ""
    except (LayerfsError, OSError):
        return " (header not readable)"
    return f" (version {version})" if version else ""


def _need(name: bytes, dependant: bytes) -> str:
    return f"{os.fsdecode(name)}, which {os.fsdecode(os.path.basename(dependant))} depends on,"


def _refuse_stranger(candidate: Candidate, directory: bytes, dependant: bytes) -> None:
    """Refuse what a stranger may have put, or may exchange, in a directory that is open to everybody."""
    mode = os.stat(directory).st_mode
    if not mode & stat.S_IWOTH:
        return
    trusted = {0, os.geteuid(), os.stat(dependant).st_uid}
    # Of a symlink its owner counts too: he may let it lead elsewhere once it was looked at.
    owners = [os.lstat(candidate.path).st_uid, os.stat(candidate.path).st_uid]
    stranger = next((owner for owner in owners if owner not in trusted), None)
    if stranger is not None:
        raise InvalidArgument(
            f"{os.fsdecode(candidate.path)} belongs to a stranger (uid {stranger}), where anybody may put files",
            "take a directory of your own",
        )
    if not mode & stat.S_ISVTX:
        raise InvalidArgument(
            f"{os.fsdecode(candidate.path)} lies where anybody may exchange it: the directory is open to all",
            f"chmod +t {os.fsdecode(directory)}, or take a directory of your own",
        )
