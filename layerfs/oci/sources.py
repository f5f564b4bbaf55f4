"""Where images come from on disk: OCI layouts (a directory or a tar) and docker-archives, behind one door.

A docker-archive becomes what a layout has: a manifest of ours that names its config and layers by their digests.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from layerfs.errors import Corrupt, InvalidArgument, NotFound
from layerfs.oci import documents
from layerfs.oci.archive import Archive, Span
from layerfs.oci.digest import Digest, Hasher, digest_of, parse_digest
from layerfs.oci.documents import DOCUMENT_MAX, MANIFEST, Descriptor, descriptor, dump_json, parse_any, parse_json
from layerfs.oci.pack import MEDIA_TYPES
from layerfs.oci.streams import PIECE, UNPACKED_MAX, LayerStream, Read, reader_of, sniff
from layerfs.sys import dirs

EMPTY_TAR: Final = bytes(1024)


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image of a source: what it calls itself, and its index or manifest."""

    names: tuple[str, ...]
    top: Descriptor


class Source(Protocol):
    """Blobs by digest, and the images that are made of them."""

    def roots(self) -> list[SourceImage]:
        """Return the images. Several may have one name: the caller refuses it when it is asked for."""

    def has(self, digest: Digest) -> bool:
        """Tell whether a blob is there."""

    def open(self, digest: Digest) -> AbstractContextManager[Read]:
        """Give the function that reads on in a blob; NotFound. What it gives is not checked yet."""


class Layout:
    """An OCI layout, whose files come from a function: it opens one to be read on in, NotFound if there is none."""

    def __init__(self, open_file: Callable[[bytes], AbstractContextManager[Read]]) -> None:
        self._open_file = open_file
        with open_file(b"oci-layout") as read:
            version = parse_json(_all(read)).get("imageLayoutVersion")
        if version != "1.0.0":
            raise Corrupt(f"the OCI layout has version {version!r:.40}")
        with open_file(b"index.json") as read:
            self._index = documents.parse_document(_all(read), documents.INDEX)

    def roots(self) -> list[SourceImage]:
        if not isinstance(self._index, documents.Index):
            raise Corrupt("the layout's index.json is no index")
        return [SourceImage(_names(entry.annotations), entry) for entry in self._index.manifests]

    def has(self, digest: Digest) -> bool:
        try:
            with self.open(digest):
                return True
        except NotFound:
            return False

    def open(self, digest: Digest) -> AbstractContextManager[Read]:
        return self._open_file(b"blobs/sha256/" + digest[7:].encode())


def _names(annotations: Mapping[str, str]) -> tuple[str, ...]:
    found = [annotations[key] for key in (documents.IMAGE_NAME, documents.REF_NAME) if annotations.get(key)]
    return tuple(dict.fromkeys(found))


def _all(read: Read) -> bytes:
    """Return a document's bytes, within bounds."""
    found = b""
    while piece := read(PIECE):
        found += piece
        if len(found) > DOCUMENT_MAX:
            raise Corrupt("a document of the image is too large")
    return found


@dataclass
class DockerArchive:
    """What `docker save`, `podman save` and skopeo write: manifest.json names a config and layers by their members."""

    archive: Archive
    documents: dict[Digest, bytes] = field(default_factory=dict)
    spans: dict[Digest, Span] = field(default_factory=dict)

    def roots(self) -> list[SourceImage]:
        listed = parse_any(self.archive.read(b"manifest.json", DOCUMENT_MAX))
        if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
            raise Corrupt("the archive's manifest.json is no list of images")
        return [self._root(each) for each in listed]

    def _root(self, listed: Mapping[str, Any]) -> SourceImage:
        tags, layers = listed.get("RepoTags") or [], listed.get("Layers") or []
        words = (
            [listed.get("Config"), *tags, *layers] if isinstance(tags, list) and isinstance(layers, list) else [None]
        )
        if not all(isinstance(word, str) for word in words):
            raise Corrupt("the archive's manifest.json is not as it should be")
        config = self.archive.read(os.fsencode(str(words[0])), DOCUMENT_MAX)
        diff_ids = (parse_json(config).get("rootfs") or {}).get("diff_ids") or []
        if len(diff_ids) != len(layers):
            layers = [layer for layer in layers if layer]  # "" stands for one that has nothing (podman)
        documents.parse_config(config, len(layers))
        raw = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._document(config, documents.CONFIG),
            "layers": [self._layer(layer, parse_digest(diff)) for layer, diff in zip(layers, diff_ids, strict=True)],
        }
        return SourceImage(tuple(tags), descriptor(self._document(dump_json(raw), MANIFEST)))

    def _document(self, data: bytes, media_type: str) -> dict[str, Any]:
        digest = digest_of(data)
        self.documents[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def _layer(self, name: str, diff_id: Digest) -> dict[str, Any]:
        """Describe a layer. A plain one is called by its DiffID, which is checked when it is taken in."""
        if not name:
            return self._document(EMPTY_TAR, MEDIA_TYPES[""])
        span = self.archive.find(os.fsencode(name))
        compression = sniff(self.archive.reader(span)(6))
        digest = diff_id
        if compression:
            hasher, read = Hasher(), self.archive.reader(span)
            while piece := read(PIECE):
                hasher.update(piece)
            digest = hasher.digest
        self.spans[digest] = span
        return {"mediaType": MEDIA_TYPES[compression], "digest": digest, "size": span.size}

    def has(self, digest: Digest) -> bool:
        return digest in self.documents or digest in self.spans

    def open(self, digest: Digest) -> AbstractContextManager[Read]:
        if (data := self.documents.get(digest)) is not None:
            return nullcontext(reader_of_bytes(data))
        if (span := self.spans.get(digest)) is not None:
            return nullcontext(self.archive.reader(span))
        raise NotFound(f"the archive has no blob {digest}")


def reader_of_bytes(data: bytes) -> Read:
    """Return the function that reads on in bytes."""
    at = 0

    def read(count: int) -> bytes:
        nonlocal at
        piece = data[at : at + count]
        at += len(piece)
        return piece

    return read


@contextmanager
def open_source(
    path: bytes, spare: bytes, check: Callable[[], None] = lambda: None, most: int = UNPACKED_MAX
) -> Iterator[Source]:
    """Open an image on disk: a layout's directory, or an archive of either kind, compressed or not; `-` is stdin.

    spare: a directory for the copy that a pipe or a compressed archive needs, which has `most` bytes.
    """
    with ExitStack() as held:
        fd = os.dup(0) if path == b"-" else os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        held.callback(os.close, fd)
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            yield Layout(lambda name: _opened(fd, name))
            return
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise InvalidArgument(f"{os.fsdecode(path)} is a device, and no image")
        os.set_blocking(fd, True)
        if not stat.S_ISREG(mode) or sniff(os.pread(fd, 6, 0)):
            fd = held.enter_context(_unpacked(reader_of(fd), spare, check, most))
        archive = Archive(fd, check)
        if b"index.json" in archive and b"oci-layout" in archive:
            yield Layout(lambda name: nullcontext(archive.reader(archive.find(name))))
        elif b"manifest.json" in archive:
            yield DockerArchive(archive)
        else:
            raise InvalidArgument(
                f"{os.fsdecode(path)} is no image", "an OCI layout has index.json, a docker-archive manifest.json"
            )


@contextmanager
def _unpacked(read: Read, spare: bytes, check: Callable[[], None], most: int) -> Iterator[int]:
    """Copy a stream that cannot be read twice to a file without a name."""
    fd = os.open(spare, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        for piece in LayerStream(read, check, most):
            view = memoryview(piece)
            while view:
                view = view[os.write(fd, view) :]
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _opened(directory: int, name: bytes) -> Iterator[Read]:
    """Open a file of a layout's directory; no symlink is followed, whatever it leads to."""
    try:
        fd = dirs.open_beneath(directory, name, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"the layout has no {os.fsdecode(name)}") from None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise Corrupt(f"{os.fsdecode(name)} in the layout is a symlink") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Corrupt(f"{os.fsdecode(name)} in the layout is no regular file")
        yield reader_of(fd)
    finally:
        os.close(fd)
