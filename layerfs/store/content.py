"""Blobs by digest in a store: the way in, the look-up, and what keeps them from being collected.

They are entries of a cache of the store's own (`layerfs.store.cache`), all of one name, so there is one way in, one
answer to whether something is in use, and one collection for packages and blobs. A digest is `sha256:` and 64 digits.

A blob is collected when no record holds its digest (`layerfs.store.records`) and nobody has it by `hold`. Who takes
several blobs in keeps what `commit` returned until a record holds them.

What is being taken in is in incoming/SHA256/, locked. Where it ends early it stays there, if its digest was known, and
the next one who takes the same in goes on; `gc` removes it.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, NamedTuple

from layerfs.errors import AlreadyExists, Corrupt, InvalidArgument, NotFound
from layerfs.store.cache import PACKAGES, Cache
from layerfs.store.entry import CacheEntry
from layerfs.store.eviction import remove_unused
from layerfs.store.intake import claim, finish, opened, workplace
from layerfs.sys import dirs
from layerfs.sys.copy import copy_data
from layerfs.sys.files import open_regular
from layerfs.value import value

NAME: Final = b"blob"
PIECE: Final = 1 << 20  # bytes read at once for a digest
# A program that we have just started (a packer) has our locks for a moment: the kernel lets the parent of a vfork go on
# before exec closes what is to be closed (fs/exec.c, begin_new_exec). Blobs of a refused image stayed for that.
_TRIES: Final = 5
_PAUSE: Final = 0.02  # s
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@value
class Blob:
    """One blob that is there, whole: its digest, its size [bytes], and the path of its file, 0444."""

    digest: str
    size: int
    path: bytes


class HeldBlob(NamedTuple):
    """A blob, and a descriptor, the caller's, that keeps it from being collected while it is open."""

    blob: Blob
    held: int


class Ingest:
    """A blob on its way in."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._begin()  # at first `offset` is how much is there of an ingest that was interrupted [bytes]
        while piece := os.pread(fd, PIECE, self.offset):
            self._digest(piece)

    def write(self, data: bytes | memoryview) -> None:
        """Append data. Raises OSError: ENOSPC, EDQUOT."""
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, self.offset)
            self._digest(view[:done])
            view = view[done:]

    def restart(self) -> None:
        """Throw away what is there; `offset` is 0 then."""
        os.ftruncate(self._fd, 0)
        self._begin()

    def _begin(self) -> None:
        from hashlib import sha256  # 5 ms that who only removes need not wait

        from xxhash import xxh3_128

        self._sha256, self._xxh3, self.offset = sha256(), xxh3_128(), 0

    @property
    def digest(self) -> str:
        """The digest of what is there."""
        return "sha256:" + self._sha256.hexdigest()

    @property
    def quick(self) -> str:
        """The XXH3-128 of what is there, with which it is compared when it is used after a boot."""
        return self._xxh3.hexdigest()

    def _digest(self, piece: bytes | memoryview) -> None:
        self._sha256.update(piece)
        self._xxh3.update(piece)
        self.offset += len(piece)


class Content:
    """The blobs of a store; any thread and any process may use it at once."""

    def __init__(self, root: bytes) -> None:
        self.cache = Cache(root)

    def get(self, digest: str) -> Blob | None:
        """Return a blob; None if it is not there. Raises InvalidArgument for what is no digest, Corrupt."""
        entry = self._entry(digest)
        return None if entry is None else _blob(entry)

    def open(self, digest: str) -> int:
        """Return a descriptor for reading a blob, which outlives the blob. Raises NotFound, Corrupt."""
        with suppress(FileNotFoundError):
            entry = self._entry(digest)
            if entry is not None:
                return os.open(self.cache.checked(entry), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        raise NotFound(f"there is no blob {digest}", "import or pull the image that needs it")

    def hold(self, digest: str) -> HeldBlob:
        """Keep a blob from being collected. Raises NotFound, Corrupt."""
        entry = self._entry(digest)
        if entry is None:
            raise NotFound(f"there is no blob {digest}", "import or pull the image that needs it")
        held = self.cache.hold(entry, wait=True)
        try:
            self.cache.checked(entry)
        except BaseException:
            os.close(held)
            raise
        return HeldBlob(_blob(entry), held)

    @contextmanager
    def ingest(self, digest: str | None = None, size: int | None = None) -> Iterator["Taking"]:
        """Take a blob in: write to what this yields, then call its `commit`. Raises AlreadyExists if it is there.

        With a digest it waits for another ingest of the same, and goes on where an interrupted one ended. `size` is
        what it must have in the end [bytes].
        """
        token = os.urandom(16).hex() if digest is None else _hex(digest)
        with workplace(self.cache) as incoming, claim(incoming, token):
            if digest is not None and self._entry(digest) is not None:
                raise AlreadyExists(f"blob {digest} is there already")
            taking = Taking(self.cache, incoming, token, digest, size)
            try:
                yield taking
            finally:
                taking.close()

    def adopt(self, path: bytes, digest: str | None = None) -> HeldBlob:
        """Take in a file, reflinked where the filesystem can; what is there already is only held."""
        source = open_regular(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            with suppress(AlreadyExists), self.ingest(digest) as taking:
                taking.copy(source)
                return taking.commit()
            return self.hold(str(digest))
        finally:
            os.close(source)

    def remove(self, *digests: str) -> bool:
        """Remove blobs unless somebody has them by `hold`, whatever holds them on record; tell whether all are gone."""
        entries = list(filter(None, map(self._entry, digests)))
        for _ in range(_TRIES):
            if remove_unused(self.cache, *entries):
                return True
            time.sleep(_PAUSE)
        return False

    def all(self) -> list[Blob]:
        """Return all blobs, by digest."""
        return sorted(map(_blob, self.cache.versions(NAME)), key=lambda blob: blob.digest)

    def _entry(self, digest: str) -> CacheEntry | None:
        return self.cache.get(NAME, _hex(digest))


class Taking(Ingest):
    """An ingest with its place in the store."""

    def __init__(self, cache: Cache, incoming: int, token: str, digest: str | None, size: int | None) -> None:
        self._cache = cache
        self._incoming = incoming
        self._token = token
        self._wanted = digest
        self._size = size
        name = os.fsencode(token)
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=incoming)
        with opened(incoming, name) as staged:
            with suppress(FileNotFoundError):  # of one who was killed when it was finished, and may not be written to
                os.chmod(NAME, 0o600, dir_fd=staged)
            super().__init__(os.open(NAME, _FILE, 0o600, dir_fd=staged))
        if size is not None and self.offset > size:
            self.restart()

    def copy(self, source: int) -> None:
        """Copy in the whole of a file, instead of calling `write`."""
        self.restart()
        copy_data(source, self._fd, os.fstat(source).st_size)
        while piece := os.pread(self._fd, PIECE, self.offset):
            self._digest(piece)

    def commit(self) -> HeldBlob:
        """Check digest and size, sync the blob and publish it. Raises Corrupt, and keeps nothing, if they differ."""
        if self._wanted not in (None, self.digest) or self._size not in (None, self.offset):
            said = f"a blob of {self.offset} bytes is {self.digest}"
            wanted = f"{self._wanted or 'any digest'}, {'any size' if self._size is None else self._size}"
            dirs.remove(self._incoming, os.fsencode(self._token))
            raise Corrupt(f"{said}, and not what was said ({wanted})", "fetch it anew, from somebody you trust")
        with ExitStack() as undo:
            undo.callback(dirs.remove, self._incoming, os.fsencode(self._token))
            os.fchmod(self._fd, 0o444)
            os.fsync(self._fd)
            if self._wanted is not None:
                found = self._publish()
            else:
                found = self._publish_late()
            undo.pop_all()
        return found

    def close(self) -> None:
        """Close the file; one that nobody can go on with is removed."""
        os.close(self._fd)
        if self._wanted is None:
            dirs.remove(self._incoming, os.fsencode(self._token))

    def _publish_late(self) -> HeldBlob:
        """Publish a blob whose digest was not known in advance, unless it is there by now."""
        with claim(self._incoming, _hex(self.digest)):
            entry = self._cache.get(NAME, _hex(self.digest))
            if entry is not None:
                with suppress(NotFound):
                    return HeldBlob(_blob(entry), self._cache.hold(entry, wait=True))
            name = os.fsencode(_hex(self.digest))
            dirs.remove(self._incoming, name)
            os.rename(os.fsencode(self._token), name, src_dir_fd=self._incoming, dst_dir_fd=self._incoming)
            return self._publish()

    def _publish(self) -> HeldBlob:
        digits = _hex(self.digest)
        path = self._cache.place(PACKAGES, NAME, os.fsencode(digits), NAME)
        entry = CacheEntry(path, "", "", self.offset, self.quick, digits, time.time())
        held = finish(self._cache, self._incoming, entry)
        self._cache.remember(entry)
        return HeldBlob(_blob(entry), held)


def _hex(digest: str) -> str:
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise InvalidArgument(f'"{digest[:80]}" is no digest', "such as sha256: and 64 hexadecimal digits")
    return match[1]


def _blob(entry: CacheEntry) -> Blob:
    return Blob("sha256:" + entry.sha256, entry.size, entry.path)
