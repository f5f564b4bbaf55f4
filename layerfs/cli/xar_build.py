"""`layerfs xar build`: a XAR of a directory or of files."""

import argparse
import os
from typing import Final

from layerfs.cli.screen import bar, complain, size
from layerfs.sys.terminal import one_line

COMPRESSIONS: Final = ("zstd", "gzip", "xz", "lz4", "none")
LARGEST: Final = 1 << 20  # bytes; squashfs 4 knows powers of two from 4 KiB up to this
UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser(
        "build",
        help="make a XAR of a directory or of files",
        description="Write a XAR, which runs where xarexec_fuse is layerfs or the reference program. What is in one "
        "directory becomes its root; several files and directories stand in its root by their names. The same input "
        "gives the same bytes: UUID comes from the content, VERSION is SOURCE_DATE_EPOCH or the newest mtime.",
    )
    parser.add_argument("paths", nargs="+", metavar="DIR|FILE", help="what goes in")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the XAR to write")
    parser.add_argument("--target", metavar="BIN", help="what runs, as seen from the XAR's root; none for a library")
    parser.add_argument(
        "--depends", nargs="+", action="extend", default=[], metavar="FILE",
        help="XARs that must be mounted below this one: paths or base names, of which the base names are kept",
    )  # fmt: skip
    parser.add_argument("--compression", choices=COMPRESSIONS, default="zstd", help="how blocks are compressed (zstd)")
    parser.add_argument("--level", type=int, metavar="N", help="how hard the compressor tries (its own default)")
    parser.add_argument(
        "--block-size", type=_block_size, default="256K", metavar="SIZE", help="a power of two, 4K to 1M (256K)"
    )
    parser.add_argument("--version", type=_number, metavar="N", help="what VERSION says instead")
    parser.add_argument("--uuid", metavar="HEX", help="what UUID says instead, 8 hex digits")
    parser.add_argument("--mount-root", metavar="DIR", help="where xarexec_fuse mounts it (MOUNT_ROOT)")
    parser.add_argument("--trampoline", action="append", default=[], metavar="NAME", help="a trampoline's name")
    parser.add_argument("--keep-owners", action="store_true", help="owners as they are, not nobody and nogroup")


def run(arguments: argparse.Namespace) -> int:
    """Build, and say what was built."""
    from layerfs.pysquashfs import Compressor
    from layerfs.xar.builder import Recipe, build

    recipe = Recipe(
        inputs=tuple(map(os.fsencode, arguments.paths)),
        output=os.fsencode(arguments.output),
        target=arguments.target,
        depends=tuple(map(os.fsencode, arguments.depends)),
        compressor=None if arguments.compression == "none" else Compressor[arguments.compression.upper()],
        level=arguments.level,
        block_size=arguments.block_size,
        version=arguments.version,
        uuid=arguments.uuid,
        mount_root=arguments.mount_root,
        trampolines=tuple(arguments.trampoline),
        keep_owners=arguments.keep_owners,
    )
    with bar(f"building {arguments.output}") as progress:
        built = build(recipe, progress)
    complain([f"warning: /{os.fsdecode(path)}: only its owner may use it, who is nobody" for path in built.closed])
    complain([f"warning: /{os.fsdecode(path)}: no {os.fsdecode(key)} in squashfs" for path, key in built.dropped])
    complain([f"warning: /{os.fsdecode(path)}: {what}" for path, what in built.changed])
    what = f"{built.entries} entries, {size(built.size)}, UUID {built.header.uuid}, VERSION {built.header.version}"
    print(one_line(f"{arguments.output}: {what}"))
    return 0


def _block_size(word: str) -> int:
    digits = word.rstrip("KMkm")
    factor = UNITS.get(word[len(digits) :].upper())
    size = _number(digits) * factor if factor else 0
    if not 4096 <= size <= LARGEST or size & (size - 1):
        raise argparse.ArgumentTypeError(f"{word!r} is no power of two from 4K to 1M")
    return size


def _number(word: str) -> int:
    if not (word.isascii() and word.isdecimal()):
        raise argparse.ArgumentTypeError(f"{word!r} is not a number")
    return int(word)
