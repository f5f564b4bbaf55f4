"""Random small trees come back as they went in."""

import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from layerfs.pysquashfs import Compressor, FileSpec, WriteOptions, write_image
from tests.pysquashfs.write_facts import DIRECTORY, by_us, facts_wanted

BLOCK = 4096

names = some.one_of(
    some.sampled_from([b"a", b"b", b"ab", b"A", b"\xff", b"a b", b"..."]),
    some.binary(min_size=1, max_size=20).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"0")),
).filter(lambda name: name not in (b".", b".."))

# Runs of few different bytes in lengths about the block size: duplicates, holes and fragments of every kind.
runs = some.tuples(some.integers(0, 3), some.sampled_from([1, 7, 500, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK]))
contents = some.lists(runs, max_size=4).map(lambda parts: b"".join(bytes([byte]) * count for byte, count in parts))
attributes = some.dictionaries(
    some.builds(lambda space, name: space + name, some.sampled_from([b"user.", b"trusted.", b"security."]), names),
    some.sampled_from([b"", b"v", b"long" * 50]),
    max_size=3,
)
others = [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK]
kinds = some.sampled_from([stat.S_IFREG] * 4 + [stat.S_IFDIR] * 3 + others)
common: some.SearchStrategy[dict[str, Any]] = some.fixed_dictionaries(
    {
        "uid": some.sampled_from([0, 1, 65536, 2**32 - 1]),
        "gid": some.sampled_from([0, 1000]),
        "mtime": some.sampled_from([0, 1, 2**31, 2**32 - 1]),
        "xattrs": attributes,
    }
)


@some.composite
def trees(draw: some.DrawFn) -> list[FileSpec]:
    """Entries parents first; some are further names of earlier files."""
    entries = [FileSpec(b"", DIRECTORY, **draw(common))]
    directories, files, taken = [b""], list[bytes](), {b""}
    for _ in range(draw(some.integers(0, 12))):
        above = draw(some.sampled_from(directories))
        path = above + b"/" + draw(names) if above else draw(names)
        if path in taken:
            continue
        taken.add(path)
        if files and draw(some.integers(0, 5)) == 0:
            entries.append(FileSpec(path, link=draw(some.sampled_from(files))))
            continue
        kind = draw(kinds)
        entry = FileSpec(path, kind | draw(some.integers(0, 0o7777)), **draw(common))
        if kind == stat.S_IFREG:
            entry.data = draw(contents)
        elif kind == stat.S_IFLNK:
            entry.target = draw(names)
        elif kind == stat.S_IFCHR:
            entry.rdev = draw(some.integers(0, 255))
        (directories if kind == stat.S_IFDIR else files).append(path)
        entries.append(entry)
    return entries


def in_pieces(data: bytes, piece: int) -> Iterator[bytes]:
    return (data[at : at + piece] for at in range(0, len(data), piece))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    entries=trees(),
    compressor=some.sampled_from([Compressor.GZIP, Compressor.LZ4, Compressor.ZSTD]),
    threads=some.integers(1, 3),
    yes=some.fixed_dictionaries(
        {
            name: some.booleans()
            for name in ("compress_inodes", "compress_xattrs", "compress_data", "export", "deduplicate", "fragments")
        }
    ),
    piece=some.sampled_from([1000, BLOCK, 5000]),
)
def test_tree_comes_back(
    entries: list[FileSpec], compressor: Compressor, threads: int, yes: dict[str, bool], piece: int
) -> None:
    wanted = facts_wanted(entries)
    options = WriteOptions(compressor, block_size=BLOCK, threads=threads, **yes)
    with tempfile.TemporaryDirectory() as place:
        write_image(Path(place, "one"), entries, options)
        assert by_us(Path(place, "one")) == wanted
        for entry in entries:  # the same in pieces gives the same image
            if isinstance(entry.data, bytes):
                entry.data = in_pieces(entry.data, piece)
        write_image(Path(place, "other"), entries, options)
        assert Path(place, "one").read_bytes() == Path(place, "other").read_bytes()
