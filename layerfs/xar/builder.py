"""A XAR made of a directory or of files: squashfs image and header, the same bytes for the same input.

What a build depends on besides the tree is in the recipe. UUID is the beginning of the image's XXH3-128, VERSION is
SOURCE_DATE_EPOCH or the newest mtime in the tree. As the reference builder does, inodes and xattrs are stored
uncompressed and everything belongs to nobody.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import xxhash

from layerfs.errors import InvalidArgument, NotFound
from layerfs.pysquashfs import Compressor, WriteOptions, write_image
from layerfs.pysquashfs.target import replacing
from layerfs.xar.contents import gather, is_closed, target_in
from layerfs.xar.header import MAGIC, Header, parse_header
from layerfs.xar.header_writer import make_header

NOBODY: Final = 65534  # nobody and nogroup, as mksquashfs -force-uid and -force-gid are told
BLOCK_SIZE: Final = 256 << 10  # bytes; the reference builder's
MODE: Final = 0o755  # of the file: a XAR is a program
PIECE: Final = 1 << 20  # bytes read at once for the digest


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to build. One directory as input gives the package's root; several inputs stand in it by their names."""

    inputs: tuple[bytes, ...]
    output: bytes
    target: str | None = None
    depends: tuple[bytes, ...] = ()
    compressor: Compressor | None = Compressor.ZSTD
    level: int | None = None
    block_size: int = BLOCK_SIZE
    version: int | None = None
    uuid: str | None = None
    mount_root: str | None = None
    trampolines: tuple[str, ...] = ()
    keep_owners: bool = False
    xattr_table: bool = False  # also where nothing has xattrs (WriteOptions)
    own_times: bool = False  # whatever SOURCE_DATE_EPOCH says (WriteOptions)


@dataclass(frozen=True, slots=True)
class Built:
    """What was built: the file's size [bytes] and the image's XXH3-128.

    `closed` may be used by its owner only, who is nobody in the package; `dropped` are xattrs (path, name) that
    squashfs cannot hold, such as ACLs; `changed` are files (path, what happened) that changed while they were read.
    """

    header: Header
    entries: int
    size: int
    digest: str
    closed: tuple[bytes, ...]
    dropped: tuple[tuple[bytes, bytes], ...]
    changed: tuple[tuple[bytes, str], ...]


def build(recipe: Recipe, progress: Callable[[int, int], None] = lambda done, total: None) -> Built:
    """Write a XAR atomically; `progress` is told how many of all bytes of content the writer has taken.

    Raises InvalidArgument for a recipe that makes no package, OSError; what stood at the output is then unchanged.
    """
    output = _output(recipe)
    depends = _depends(recipe.depends, os.path.basename(output))
    contents = gather(recipe.inputs, keep_root=recipe.keep_owners)
    target = None if recipe.target is None else target_in(contents, recipe.target)
    options = _options(recipe)
    latest = options.latest()
    time = contents.newest if latest is None else latest

    def header(uuid: str) -> bytes:
        return make_header(
            uuid=recipe.uuid or uuid,
            version=str(time if recipe.version is None else recipe.version),
            target=target,
            dependencies=depends,
            mount_root=recipe.mount_root,
            trampolines=recipe.trampolines,
        )

    offset = len(header("00000000"))
    total = contents.size
    with _staged(output) as fd:
        size = offset + write_image(
            fd,
            contents.entries,
            options,
            offset=offset,
            on_progress=lambda done: progress(done, total),
            on_changed=lambda *what: contents.changed.append(what),
        )
        digest = digest_from(fd, offset)
        text = header(digest[:8])
        os.pwrite(fd, text, 0)
    closed = () if recipe.keep_owners else tuple(entry.path for entry in contents.entries if is_closed(entry))
    dropped = tuple(contents.dropped)
    changed = tuple(contents.changed)
    return Built(parse_header(text + MAGIC, output), len(contents.entries), size, digest, closed, dropped, changed)


def _options(recipe: Recipe) -> WriteOptions:
    owner = None if recipe.keep_owners else NOBODY
    return WriteOptions(
        # Without compression the number of one is written all the same: the one that every reader knows.
        compressor=recipe.compressor or Compressor.GZIP,
        level=recipe.level,
        block_size=recipe.block_size,
        compress_data=recipe.compressor is not None,
        compress_inodes=False,
        compress_xattrs=False,
        force_uid=owner,
        force_gid=owner,
        xattr_table=recipe.xattr_table,
        own_times=recipe.own_times,
    )


def _depends(names: Iterable[bytes], own: bytes) -> tuple[str, ...]:
    """Return the base names of what a package depends on, each once, in order; a path must exist."""
    found: dict[bytes, bytes] = {}
    for path in names:
        name = os.path.basename(path)
        shown = os.fsdecode(path)
        if not name or name in (b".", b"..") or b" " in name:
            raise InvalidArgument(f"{shown!r} cannot be a dependency: DEPENDENCIES hold base names without spaces")
        if name == own:
            raise InvalidArgument(f"{shown} would depend on itself")
        if b"/" in path and not os.path.exists(path):
            raise NotFound(f"no such dependency: {shown}", "a base name need not exist yet, a path must")
        if found.setdefault(name, path) != path:
            other = os.fsdecode(found[name])
            raise InvalidArgument(f"{other} and {shown} have one base name, and no more than that is kept")
    return tuple(map(os.fsdecode, found))


def _output(recipe: Recipe) -> bytes:
    """Return the output's real path, which may be neither an input nor inside one."""
    output = os.path.realpath(recipe.output)
    shown = os.fsdecode(recipe.output)
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(recipe.output).st_mode):
            raise InvalidArgument(f"the output {shown} is there and is not a regular file")
    if not os.path.isdir(os.path.dirname(output)):
        raise NotFound(f"no such directory: {os.fsdecode(os.path.dirname(output))}")
    for path in map(os.path.realpath, recipe.inputs):
        if os.path.commonpath([path, output]) == path:
            raise InvalidArgument(f"the output {shown} lies in the input {os.fsdecode(path)}", "write it elsewhere")
    return output


@contextmanager
def _staged(output: bytes) -> Iterator[int]:
    """Yield a new file; on success it is synced and takes the output's name, else it is removed."""
    with replacing(output) as fd:
        try:
            yield fd
        except OSError as error:
            error.filename = error.filename or output  # of the writer, which knows a descriptor only
            raise
        os.fchmod(fd, MODE)


def digest_from(fd: int, offset: int) -> str:
    """Return the XXH3-128 of a file from `offset` on."""
    state = xxhash.xxh3_128()
    while piece := os.pread(fd, PIECE, offset):
        state.update(piece)
        offset += len(piece)
    return state.hexdigest()
