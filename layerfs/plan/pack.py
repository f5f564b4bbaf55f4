"""Layers built from a plan; one whose contents an earlier pack or the package cache has is taken from there."""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from layerfs.errors import AlreadyExists, InvalidArgument, NotReady
from layerfs.oci.digest import Digest, parse_digest
from layerfs.oci.documents import Json
from layerfs.plan import images, layout
from layerfs.plan.contents import LayerContents, Slice, slices
from layerfs.plan.record import NAME, LayerRecord, PackRecord, PlanRead, compare, read_record, write_record
from layerfs.plan.sources import GraphSource
from layerfs.plan.tree import ModuleTree
from layerfs.pysquashfs import WriteOptions
from layerfs.pysquashfs.target import replacing
from layerfs.store.cache import Cache
from layerfs.store.entry import CacheEntry
from layerfs.store.intake import add
from layerfs.sys import dirs
from layerfs.sys.copy import copy_data
from layerfs.sys.files import NotRegular, open_regular
from layerfs.xar.digest import trusted

FORMATS: Final = ("xar", "squashfs", "oci")
SUFFIXES: Final = {"xar": ".xar", "squashfs": ".sqfs", "oci": ""}

Told = Callable[[int, int], None]  # layers done, of how many


@dataclass(frozen=True, slots=True)
class PackOptions:
    """How to pack. `output`: a new directory for the layers, or None; `cache`: a package cache for them, or None.

    name: the prefix of file names, or the name of the image. config: that of the image that is packed again, if any.
    """

    format: str = "xar"
    output: bytes | None = None
    previous: bytes | None = None
    cache: Cache | None = None
    name: str | None = None
    level: int | None = None
    config: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer that was packed; `origin` is `built`, `previous` or `cache`; `cached`: the cache had it already."""

    record: LayerRecord
    origin: str
    cached: bool


@dataclass(frozen=True, slots=True)
class Packed:
    """All layers, bottom first, where the topmost one is, and the xattrs (path, name) that images cannot hold."""

    layers: tuple[Layer, ...]
    top: bytes
    name: str
    dropped: tuple[tuple[bytes, bytes], ...]


def pack(plan: PlanRead, source: GraphSource, options: PackOptions, told: Told = lambda done, total: None) -> Packed:
    """Build the layers of a plan. Raises InvalidArgument, AlreadyExists, NotReady, Unsupported, OSError.

    What was made of the output is removed again if anything is wrong.
    """
    tree = source.tree
    if tree is None:
        raise InvalidArgument(
            f"it is not known where the files of {source.graph.name} are",
            'say it: "root" of the graph, "paths" of modules',
        )
    compare(plan, source.graph)
    before = read_record(options.previous) if options.previous is not None else None
    with _output(options) as directory:
        packing = _Packing(plan, tree, options, directory, before)
        return packing.run(told)


@contextmanager
def _output(options: PackOptions) -> Iterator[bytes]:
    """Yield the directory to pack into: the output, kept if all is well, or a scratch one for the cache."""
    if options.output is None:
        place = os.environ.get("TMPDIR") or "/var/tmp"  # /tmp may be in memory
        with tempfile.TemporaryDirectory(prefix="layerfs-pack-", dir=place) as scratch:
            yield os.fsencode(scratch)
        return
    output = options.output
    made = not os.path.isdir(output)
    if made and os.path.lexists(output):
        raise AlreadyExists(f"{os.fsdecode(output)} is there, and is no empty directory", "name a new one")
    os.makedirs(output, 0o755, exist_ok=True)  # whatever the umask is
    with ExitStack() as stack:
        fd = os.open(output, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        _check_output(fd, os.fsdecode(output), made)
        # Whoever may rename the directory, or put a symlink in its place, leads nothing elsewhere.
        pinned = b"/proc/self/fd/%d" % fd if os.path.isdir("/proc/self/fd") else output
        try:
            yield pinned
        except BaseException as error:
            if isinstance(error, OSError) and isinstance(error.filename, bytes):
                error.filename = error.filename.replace(pinned, output, 1)
            dirs.empty(fd)
            if made:
                with suppress(OSError):  # it may have been renamed; what ended the pack says more
                    os.rmdir(output)
            raise


def _check_output(fd: int, shown: str, made: bool) -> None:
    """Refuse a directory that holds something, or in which others could put symlinks where layers are written.

    One that was made here may have any mode: there are filesystems that have one for all.
    """
    names = os.listdir(fd)
    if names:
        hint = f"pack beside it: --previous {shown}" if os.fsdecode(NAME) in names else "name a new one"
        raise AlreadyExists(f"{shown} is there, and is no empty directory", hint)
    st = os.fstat(fd)
    if st.st_uid != os.geteuid() or (st.st_mode & stat.S_IWOTH and not made):
        raise InvalidArgument(f"others may write to {shown}", f"name a directory that is not there: {shown}/NAME")


class _Packing:
    """One pack on its way: layers that exist already are taken over, the others are built."""

    def __init__(
        self, plan: PlanRead, tree: ModuleTree, options: PackOptions, directory: bytes, before: PackRecord | None
    ) -> None:
        self._plan, self._tree, self._options, self._directory, self._before = plan, tree, options, directory, before
        self._old: dict[tuple[str, str], LayerRecord] = {}
        self._previous = options.previous or b""
        if before is not None and before.format == options.format:
            named = options.format != "oci"
            self._old = {(layer.file if named else "", layer.contents): layer for layer in before.layers}
        default = before.name if before is not None else "layer"
        self._name = options.name if options.name is not None else default
        self._dropped: list[tuple[bytes, bytes]] = []
        self._held = ExitStack()
        self._latest = WriteOptions().latest()  # SOURCE_DATE_EPOCH

    def run(self, told: Told) -> Packed:
        pieces = slices(self._tree, self._plan.layers)
        names = images.names_of([piece.id for piece in pieces], self._name, SUFFIXES[self._options.format])
        if self._options.format == "oci":
            layout.begin(self._directory)
        layers: list[Layer] = []
        with self._held:
            for number, (piece, name) in enumerate(zip(pieces, names, strict=True)):
                told(number, len(pieces))
                below = tuple(names[-2::-1]) if piece.topmost and self._options.format == "xar" else ()
                layer = self._layer(
                    piece, name, images.ImageForm(self._options.format == "xar", below, self._options.level)
                )
                layers.append(self._cached(layer, layers))
            records = tuple(layer.record for layer in layers)
            place = self._options.output or self._directory
            top = os.path.join(place, os.fsencode(records[-1].file))
            if self._options.format == "oci":
                blobs = [
                    layout.LayerBlob(_sha256_of(each.sha256), each.bytes, _sha256_of(each.diff_id)) for each in records
                ]
                layout.finish(self._directory, blobs, self._plan.whys, self._name, self._options.config)
                top = place
            write_record(self._directory, PackRecord(self._options.format, self._name, records))
        return Packed(tuple(layers), top, self._name, tuple(self._dropped))

    def _contents(self, piece: Slice, recipe: bytes) -> LayerContents:
        return LayerContents(self._tree, piece, recipe, self._latest)

    def _layer(self, piece: Slice, name: str, form: images.ImageForm) -> Layer:
        recipe = layout.RECIPE if self._options.format == "oci" else form.recipe
        digest = self._contents(piece, recipe).drain()
        if self._options.format == "oci":
            return self._blob(piece, digest, recipe)
        path = os.path.join(self._directory, os.fsencode(name))
        origin = self._found(name, digest, path)
        if not origin:
            contents = self._contents(piece, recipe)
            images.write_layer(path, contents, form, digest, lambda *what: self._dropped.append(what))
            self._check(contents, digest)
        sha256, size = _digest(path)
        return Layer(LayerRecord(piece.id, digest, name, sha256, size), origin or "built", False)

    def _blob(self, piece: Slice, digest: str, recipe: bytes) -> Layer:
        old = self._old.get(("", digest))
        if old is not None and self._copied(old, layout.place(self._directory, _sha256_of(old.sha256))):
            return Layer(LayerRecord(piece.id, digest, old.file, old.sha256, old.bytes, old.diff_id), "previous", False)
        contents = self._contents(piece, recipe)
        blob = layout.write_blob(self._directory, contents)
        self._check(contents, digest)
        file = os.fsdecode(layout.BLOBS) + "/" + blob.digest[7:]
        record = LayerRecord(piece.id, digest, file, blob.digest[7:], blob.size, blob.diff_id[7:])
        return Layer(record, "built", False)

    def _check(self, contents: LayerContents, digest: str) -> None:
        """Raise NotReady if what was packed is not what was digested before."""
        if contents.digest != digest:
            raise NotReady("a file changed while it was packed", "pack a tree that nobody writes to")

    def _found(self, name: str, digest: str, path: bytes) -> str:
        """Take a layer from an earlier pack or from the cache, and say from where; empty if neither has it."""
        old = self._old.get((name, digest))
        if old is not None and self._copied(old, path):
            return "previous"
        entry = self._in_cache(name, digest)
        if entry is None:
            return ""
        _copy(entry.path, path)
        return "cache"

    def _copied(self, old: LayerRecord, path: bytes) -> bool:
        """Copy a file of the earlier pack; tell whether it was the one that its record says."""
        source = os.path.join(self._previous, os.fsencode(old.file))
        try:
            return os.path.isfile(source) and _copy(source, path, old)
        except NotRegular:  # by now
            return False

    def _in_cache(self, name: str, digest: str) -> CacheEntry | None:
        """Return the sound entry of a layer with some contents, kept from being evicted."""
        if self._options.cache is None:
            return None
        for entry in self._options.cache.versions(os.fsencode(name)):
            if entry.version == images.version_of(digest):
                self._held.callback(os.close, self._options.cache.hold(entry))
                self._options.cache.checked(entry)
                return entry
        return None

    def _cached(self, layer: Layer, below: list[Layer]) -> Layer:
        """Add a layer to the cache. The topmost one comes last: its dependencies are the others as they are now."""
        if self._options.cache is None:
            return layer
        path = os.path.join(self._directory, os.fsencode(layer.record.file))
        topmost = layer.record.id == self._plan.layers[-1][0]
        depends = {each.record.file: each.record.sha256 for each in below} if topmost else {}
        added = add(self._options.cache, path, depends)
        self._held.callback(os.close, added.held)
        return Layer(layer.record, layer.origin, not added.stored)


def _sha256_of(digits: str) -> Digest:
    return parse_digest(f"sha256:{digits}")


class _Other(Exception):
    """A file is not the one that a record says."""


def _copy(source: bytes, path: bytes, expected: LayerRecord | None = None) -> bool:
    """Copy a file, reflinked where the filesystem can. False, and no copy, if it is not the expected one.

    An earlier pack may be a stranger's: a symlink in it shows nobody anything but the very layer that is expected.
    """
    fd = open_regular(source)
    try:
        size = os.fstat(fd).st_size
        if expected is not None and size != expected.bytes:
            return False
        with suppress(_Other), replacing(path) as target:
            copy_data(fd, target, size)
            if expected is not None and trusted(target) != expected.sha256:
                raise _Other
            os.fchmod(target, 0o755 if path.endswith(b".xar") else 0o644)
            return True
        return False
    finally:
        os.close(fd)


def _digest(path: bytes) -> tuple[str, int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return trusted(fd), os.fstat(fd).st_size
    finally:
        os.close(fd)
