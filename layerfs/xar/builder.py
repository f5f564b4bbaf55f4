"""A XAR made of a directory or of files: squashfs image and header, the same bytes for the same input.

What a build depends on besides the tree is in the recipe. UUID is the beginning of the image's XXH3-128, VERSION is
SOURCE_DATE_EPOCH or the newest mtime in the tree. As the reference builder does, inodes and xattrs are stored
uncompressed and everything belongs to nobody.
"""

import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import xxhash

from layerfs.errors import InvalidArgument, NotFound
from layerfs.pysquashfs import Compressor, Entry, WriteOptions, write_image
from layerfs.xar.contents import gather, is_closed, target_in
from layerfs.xar.header import MAGIC, PAGE, Header, make_header, parse_header

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
    compressor: Compressor = Compressor.ZSTD
    level: int | None = None
    block_size: int = BLOCK_SIZE
    version: int | None = None
    uuid: str | None = None
    mount_root: str | None = None
    trampolines: tuple[str, ...] = ()
    keep_owners: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """What was built: sizes in bytes, the image's XXH3-128, and what nobody but its owner can read in it."""

    header: Header
    entries: int
    size: int
    digest: str
    closed: tuple[bytes, ...]


def build(recipe: Recipe, progress: Callable[[int, int], None] = lambda done, total: None) -> Built:
    """Write a XAR atomically; `progress` is told how many of all entries the writer has taken.

    Raises InvalidArgument for a recipe that makes no package, OSError; what stood at the output is then unchanged.
    """
    output = _output(recipe)
    depends = _depends(recipe.depends, os.path.basename(output))
    entries = gather(recipe.inputs, keep_owners=recipe.keep_owners)
    by_path = {entry.path: entry for entry in entries}
    target = None if recipe.target is None else target_in(by_path, recipe.target)
    newest = _epoch(entries)

    def header(uuid: str) -> bytes:
        return make_header(
            uuid=recipe.uuid or uuid,
            version=str(newest if recipe.version is None else recipe.version),
            target=target,
            dependencies=depends,
            mount_root=recipe.mount_root,
            trampolines=recipe.trampolines,
        )

    offset = len(header("00000000"))
    with _staged(output) as fd:
        write_image(fd, _told(entries, progress), _options(recipe, newest), offset=offset)
        size = -(-os.fstat(fd).st_size // PAGE) * PAGE  # a loop device shows whole sectors only
        os.ftruncate(fd, size)
        digest = _digest(fd, offset)
        text = header(digest[:8])
        os.pwrite(fd, text, 0)
    closed = () if recipe.keep_owners else tuple(entry.path for entry in entries if is_closed(entry))
    return Built(parse_header(text + MAGIC, output), len(entries), size, digest, closed)


def _epoch(entries: Iterable[Entry]) -> int:
    """Return the time of the build [s]: SOURCE_DATE_EPOCH, or the newest mtime."""
    said = os.environ.get("SOURCE_DATE_EPOCH")
    if said is None:
        return max(0, *(entry.mtime for entry in entries))
    if not (said.isascii() and said.isdecimal()):
        raise InvalidArgument(f"SOURCE_DATE_EPOCH is {said!r}, not a number of seconds")
    return int(said)


def _options(recipe: Recipe, newest: int) -> WriteOptions:
    owner = None if recipe.keep_owners else NOBODY
    return WriteOptions(
        compressor=recipe.compressor,
        level=recipe.level,
        block_size=recipe.block_size,
        compress_inodes=False,
        compress_xattrs=False,
        force_uid=owner,
        force_gid=owner,
    )


def _told(entries: Sequence[Entry], progress: Callable[[int, int], None]) -> Iterator[Entry]:
    for number, entry in enumerate(entries):
        progress(number, len(entries))
        yield entry
    progress(len(entries), len(entries))


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
    """Return the real path of what will be written; it must be no input, nor lie in one."""
    output = os.path.realpath(recipe.output)
    shown = os.fsdecode(recipe.output)
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(output).st_mode):
            raise InvalidArgument(f"the output {shown} is there and is not a regular file")
    for path in map(os.path.realpath, recipe.inputs):
        if os.path.commonpath([path, output]) == path:
            raise InvalidArgument(f"the output {shown} lies in the input {os.fsdecode(path)}", "write it elsewhere")
    return output


@contextmanager
def _staged(output: bytes) -> Iterator[int]:
    """Yield a new file beside the output that takes its place, on disk, when all went well, and goes when not."""
    place, name = os.path.split(output)
    fd, path = tempfile.mkstemp(dir=place, prefix=b"." + name[:200] + b".", suffix=b".new")
    try:
        yield fd
        os.fchmod(fd, MODE)
        os.fsync(fd)
        os.rename(path, output)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(path)
        raise
    finally:
        os.close(fd)
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)  # the rename itself
    finally:
        os.close(directory)


def _digest(fd: int, offset: int) -> str:
    """Return the XXH3-128 of a file from `offset` on."""
    state = xxhash.xxh3_128()
    while piece := os.pread(fd, PIECE, offset):
        state.update(piece)
        offset += len(piece)
    return state.hexdigest()
