"""Digests: the names of content. Only sha256 in lower case is one; nothing else ever becomes a path or an address."""

import hashlib
import re
from typing import Final, NewType, Protocol

from layerfs.errors import Corrupt, InvalidArgument

Digest = NewType("Digest", str)  # "sha256:" and 64 hexadecimal digits

_WELL_FORMED: Final = re.compile(r"sha256:[0-9a-f]{64}")
EMPTY: Final = Digest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


def parse_digest(text: object) -> Digest:
    """Return a stranger's text as a digest; InvalidArgument if it is none that we can check."""
    if isinstance(text, str) and _WELL_FORMED.fullmatch(text):
        return Digest(text)
    raise InvalidArgument(f"not a sha256 digest: {str(text)[:100]!r}")


def digest_of(data: bytes) -> Digest:
    """Return the digest of bytes."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


class Hashed(Protocol):
    """The digest and length of bytes that come in pieces."""

    size: int

    def update(self, piece: bytes | memoryview) -> None:
        """Add a piece."""

    @property
    def digest(self) -> Digest:
        """The digest of all pieces."""


class KnownDigest:
    """The length of bytes that come in pieces, and the digest that they are known to have."""

    __slots__ = ("digest", "size")

    def __init__(self, digest: Digest) -> None:
        self.digest = digest
        self.size = 0

    def update(self, piece: bytes | memoryview) -> None:
        """Add a piece."""
        self.size += len(piece)


class Hasher:
    """The digest and length of bytes that come in pieces."""

    __slots__ = ("_state", "size")

    def __init__(self) -> None:
        self._state = hashlib.sha256()
        self.size = 0

    def update(self, piece: bytes | memoryview) -> None:
        """Add a piece."""
        self._state.update(piece)
        self.size += len(piece)

    @property
    def digest(self) -> Digest:
        """The digest of all pieces so far."""
        return Digest("sha256:" + self._state.hexdigest())


def expect(what: str, wanted: Digest | None, found: Digest) -> None:
    """Raise Corrupt if bytes are not what their name says."""
    if wanted is not None and wanted != found:
        raise Corrupt(f"{what} has digest {found}, not {wanted}")
