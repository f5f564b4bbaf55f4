"""An image out of the store: an OCI layout (a directory or a tar) or a docker-archive. Blobs leave as they came in."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from layerfs.errors import AlreadyExists, Corrupt, Unsupported
from layerfs.oci import documents
from layerfs.oci.closure import leaves, parts
from layerfs.oci.digest import Digest
from layerfs.oci.documents import Descriptor, Manifest, dump_json
from layerfs.oci.images import Image, Images
from layerfs.oci.streams import PIECE, LayerStream, reader_of
from layerfs.oci.tar import Member
from layerfs.oci.target import USUAL, Limits
from layerfs.oci.write import END, EXACT, Write, headers
from layerfs.pysquashfs.target import replacing
from layerfs.sys.copy import copy_data

LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
FORMATS: Final = ("oci", "oci-dir", "docker")
_MODE: Final = 0o444

Progress = Callable[[int, int], None]  # bytes so far, and in all


def export(
    images: Images, image: Image, output: bytes, format_: str, progress: Progress = lambda done, total: None,
    limits: Limits = USUAL,
) -> None:  # fmt: skip
    """Write an image to a file, a directory (`oci-dir`), or `-` for standard output. All or nothing.

    `limits` bound what the layers of a docker-archive unpack to. Raises AlreadyExists for a directory that is not
    empty, Corrupt, InvalidArgument, OSError.
    """
    exporting = _Export(images, image, progress, limits)
    if format_ == "oci-dir":
        exporting.directory(output)
        return
    with _file(output) as fd:
        write = _writer(fd)
        if format_ == "docker":
            exporting.docker(write)
        else:
            exporting.archive(write)
        write(END)


@contextmanager
def _file(output: bytes) -> Iterator[int]:
    if output == b"-":
        yield 1
    else:
        with replacing(output) as fd:
            yield fd


def _writer(fd: int) -> Write:
    def write(data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    return write


class _Export:
    """One image on its way out."""

    def __init__(self, images: Images, image: Image, progress: Progress, limits: Limits) -> None:
        self._images = images
        self._image = image
        self._progress = progress
        self._limits = limits
        self._done = 0
        self._total = 0

    def _contents(self) -> tuple[Descriptor, list[Descriptor]]:
        """Return what is exported, an index only if all that it names is there, and all blobs."""
        images, image = self._images, self._image
        chosen = images.load(image)
        found = leaves(image.top, images.document, images.has)
        top = image.top
        if not all(images.has(leaf.descriptor.digest) for leaf in found):
            top, found = image.chosen, leaves(image.chosen, images.document)
        wanted = [top, *parts(chosen.manifest), image.chosen]
        for leaf in found:
            wanted += [*leaf.above, leaf.descriptor]
            document = documents.parse_document(images.document(leaf.descriptor), leaf.descriptor.media_type)
            if isinstance(document, documents.Manifest):
                wanted += [part for part in parts(document) if images.has(part.digest)]
        blobs = list({each.digest: each for each in wanted}.values())
        self._total = sum(blob.size for blob in blobs)
        return top, blobs

    def _index(self, top: Descriptor) -> bytes:
        name = self._image.name
        annotations = {} if name.startswith("sha256:") else {documents.IMAGE_NAME: name, documents.REF_NAME: name}
        kind = top.media_type or documents.MANIFEST
        entry = {"mediaType": kind, "digest": top.digest, "size": top.size, "annotations": annotations}
        return dump_json({"schemaVersion": 2, "mediaType": documents.INDEX, "manifests": [entry]})

    def archive(self, write: Write) -> None:
        """Write a layout as a tar."""
        top, blobs = self._contents()
        for name, data in ((b"oci-layout", LAYOUT), (b"index.json", self._index(top))):
            _member(write, name, [data], len(data))
        for blob in blobs:
            with self._opened(blob) as fd:
                _member(write, b"blobs/sha256/" + blob.digest[7:].encode(), self._pieces(fd), blob.size)

    def directory(self, output: bytes) -> None:
        """Write a layout as a directory, the index last: without that it is none."""
        top, blobs = self._contents()
        os.makedirs(output, exist_ok=True)
        if os.listdir(output):
            raise AlreadyExists(f"{os.fsdecode(output)} is not empty")
        os.makedirs(output + b"/blobs/sha256")
        for blob in blobs:
            with self._opened(blob) as fd, _new(output + b"/blobs/sha256/" + blob.digest[7:].encode()) as target:
                copy_data(fd, target, blob.size)
            self._count(blob.size)
        for name, data in ((b"/oci-layout", LAYOUT), (b"/index.json", self._index(top))):
            with _new(output + name) as target:
                _writer(target)(data)

    def docker(self, write: Write) -> None:
        """Write a docker-archive: layers uncompressed, by their DiffIDs; manifest.json last."""
        chosen = self._images.load(self._image)
        if chosen.config is None:
            raise Unsupported("this is an artifact, which no docker-archive can hold", "export it as OCI layout")
        config = self._images.document(chosen.manifest.config)
        name = chosen.manifest.config.digest[7:] + ".json"
        _member(write, name.encode(), [config], len(config))
        layers = self._docker_layers(write, chosen.manifest, chosen.config.diff_ids)
        tags = [] if self._image.name.startswith("sha256:") else [self._image.name]
        manifest = dump_json_list([{"Config": name, "RepoTags": tags, "Layers": layers}])
        _member(write, b"manifest.json", [manifest], len(manifest))

    def _docker_layers(self, write: Write, manifest: Manifest, diff_ids: Sequence[Digest]) -> list[str]:
        self._total = 2 * sum(layer.size for layer in manifest.layers)
        names: list[str] = []
        for layer, diff_id in zip(manifest.layers, diff_ids, strict=True):
            name = diff_id[7:] + ".tar"
            if name not in names:
                with self._opened(layer) as fd:
                    stream = LayerStream(reader_of(fd), most=self._limits.size)
                    size = sum(map(len, stream))  # a tar says it first
                    _checked(diff_id, stream)
                    os.lseek(fd, 0, os.SEEK_SET)
                    self._count(layer.size)
                    _member(write, name.encode(), LayerStream(reader_of(fd)), size)
                    self._count(layer.size)
            names.append(name)
        return names

    @contextmanager
    def _opened(self, blob: Descriptor) -> Iterator[int]:
        fd = self._images.store.content.open(blob.digest)
        try:
            if os.fstat(fd).st_size != blob.size:
                raise Corrupt(f"blob {blob.digest} in the store has not {blob.size} bytes")
            yield fd
        finally:
            os.close(fd)

    def _pieces(self, fd: int) -> Iterator[bytes]:
        while piece := os.read(fd, PIECE):
            yield piece
            self._count(len(piece))

    def _count(self, size: int) -> None:
        self._done += size
        self._progress(self._done, self._total)


def _checked(diff_id: Digest, stream: LayerStream) -> None:
    if stream.unpacked.digest != diff_id:
        raise Corrupt(f"a layer in the store is {stream.unpacked.digest}, not {diff_id}")


def dump_json_list(documents_: list[dict[str, Any]]) -> bytes:
    """Return a list of JSON objects."""
    return b"[" + b",".join(map(dump_json, documents_)) + b"]"


def _member(write: Write, name: bytes, pieces: "Iterator[bytes] | list[bytes] | LayerStream", size: int) -> None:
    """Write a file of an archive: no owner, no time."""
    write(headers(Member(name, stat.S_IFREG, _MODE, 0, 0, 0), size, EXACT))
    left = size
    for piece in pieces:
        left -= len(piece)
        write(piece)
    if left:
        raise Corrupt(f"{name.decode()} changed while it was written out")
    write(bytes(-size % 512))


@contextmanager
def _new(path: bytes) -> Iterator[int]:
    with ExitStack() as held:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        held.callback(os.close, fd)
        yield fd
