"""`layerfs xar info`: what a package says of itself and what is in it."""

import argparse
import os
import stat
from typing import Any, Final

from layerfs.cli.screen import size
from layerfs.cli.xar import add_file
from layerfs.sys.terminal import json_text, one_line
from layerfs.xar import digest
from layerfs.xar.header import Header
from layerfs.xar.package import Package, opened

KINDS: Final = {stat.S_IFREG: "files", stat.S_IFDIR: "directories", stat.S_IFLNK: "symlinks"}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser(
        "info",
        help="show a XAR's header and what is in its image",
        description="Show a XAR's header, which of the reference readers accept it, how its image is compressed, what "
        "is in it and what it is called by content. A bare squashfs image has no header to show.",
    )
    add_file(parser)
    parser.add_argument("--json", action="store_true", help="print an object")


def run(arguments: argparse.Namespace) -> int:
    """Print what is known of a package."""
    with opened(os.fsencode(arguments.file), arguments.offset) as package:
        known = _known(package)
    if arguments.json:
        print(json_text(known))
    else:
        _print(known)
    return 0


def _known(package: Package) -> dict[str, Any]:
    with open(package.path, "rb") as file:
        digests = digest.both(file.fileno())
    return {
        "file": os.fsdecode(package.path),
        "kind": "xar" if package.header else "squashfs",
        "size": package.size,
        "digest": {"xxh3_128": digests.xxh3, "sha256": digests.sha256},
        "header": _header(package.header) if package.header else None,
        "image": _image(package),
    }


def _header(header: Header) -> dict[str, Any]:
    return {
        "shebang": header.shebang,
        "offset": header.offset,
        "uuid": header.uuid,
        "version": header.version,
        "dependencies": list(header.dependencies),
        "target": header.target,
        "mount_root": header.mount_root,
        "trampolines": list(header.trampolines),
        "extra": dict(header.extra),
        "accepted_by": [dialect.value for dialect in header.dialects],
        "remarks": [
            {"line": line, "refused_by": refuser.value, "said": said} for line, refuser, said in header.remarks
        ],
    }


def _image(package: Package) -> dict[str, Any]:
    superblock = package.image.superblock
    counts = dict.fromkeys((*KINDS.values(), "others"), 0)
    stored: dict[int, int] = {}  # inode number -> bytes
    names = 0
    for _, inode in package.image.visit():
        names += 1
        if inode.number not in stored:
            counts[KINDS.get(stat.S_IFMT(inode.mode), "others")] += 1
            stored[inode.number] = inode.size if stat.S_ISREG(inode.mode) else 0
    return {
        "compressor": superblock.compressor.name.lower(),
        "block_size": superblock.block_size,
        "made": superblock.modification_time,
        "bytes_used": superblock.bytes_used,
        "data_size": sum(stored.values()),
        "names": names,
        "inodes": superblock.inode_count,
        **counts,
        "fragments": superblock.fragment_count,
    }


def _print(known: dict[str, Any]) -> None:
    """Print what is known in lines, for a person."""
    header, image = known["header"], known["image"]
    lines = [("file", known["file"]), ("kind", known["kind"]), ("size", size(known["size"]))]
    if header:
        lines += [(key, header[key]) for key in ("uuid", "version", "offset", "target", "mount_root")]
        lines += [("depends", " ".join(header["dependencies"])), ("trampolines", " ".join(header["trampolines"]))]
        lines += [(key, value) for key, value in header["extra"].items()]
        lines.append(("accepted by", ", ".join(header["accepted_by"])))
        lines += [("remark", f"line {r['line']}: {r['refused_by']} refuses it: {r['said']}") for r in header["remarks"]]
    lines.append(("compressor", f"{image['compressor']}, blocks of {size(image['block_size'])}"))
    lines.append(("image", f"{size(image['bytes_used'])} for {size(image['data_size'])} of data"))
    kinds = ", ".join(f"{image[kind]} {kind}" for kind in (*KINDS.values(), "others"))
    lines.append(("inodes", f"{image['inodes']}: {kinds}; {image['names']} names"))
    lines += [("xxh3-128", known["digest"]["xxh3_128"]), ("sha256", known["digest"]["sha256"])]
    for key, value in lines:
        if value not in (None, ""):
            print(one_line(f"{key:<13}{value}"))
