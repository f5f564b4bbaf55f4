"""`layerfs xar ls`: what is in an image, without mounting it."""

import argparse
import os
import stat
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from layerfs.cli.xar import add_file
from layerfs.errors import NotFound
from layerfs.pysquashfs import Inode, SquashfsError, SquashfsImage
from layerfs.pysquashfs.trail import Trail
from layerfs.sys.terminal import json_text, one_line
from layerfs.xar.package import opened, reason

TYPES: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}

_Listed = tuple[Trail, Inode]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser(
        "ls",
        help="list what is in a XAR or squashfs image",
        description="List a directory of the image in a XAR or squashfs image, or one file of it. PATH is seen from "
        "the image's root, which is listed without it; symlinks are not followed. Names that are no text are escaped.",
    )
    add_file(parser)
    parser.add_argument("path", nargs="?", default="", metavar="PATH", help="the directory or file to list")
    parser.add_argument("-l", "--long", action="store_true", help="with mode, owner, size, time and a link's target")
    parser.add_argument("-R", "--recursive", action="store_true", help="with all that is below, as paths")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print a list of objects: path, type, mode, uid, gid, size, mtime, links, inode, target, rdev",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the listing; exit status 1 if a part of it cannot be read."""
    with opened(os.fsencode(arguments.file), arguments.offset) as package:
        image = package.image
        found = _listing(image, os.fsencode(arguments.path), recursive=arguments.recursive)
        if arguments.json:
            print(json_text([_facts(image, *each) for each in found]))
            return 0
        damaged = 0
        for trail, inode in found:
            line = _long(image, trail, inode) if arguments.long else os.fsdecode(trail.shown)
            print(one_line(line))
            if not inode.number:
                damaged += 1
                print(f"layerfs: {one_line(os.fsdecode(trail.shown))} cannot be read", file=sys.stderr)
    return int(bool(damaged))


def _listing(image: SquashfsImage, path: bytes, *, recursive: bool) -> Iterator[_Listed]:
    """Yield what a path names: the content of a directory, or the one file under the given name."""
    try:
        top = image.lookup(path)
    except SquashfsError as error:
        if error.code in ("SQFS_ERROR_NO_ENTRY", "SQFS_ERROR_NOT_DIR"):
            shown = os.fsdecode(path)
            hint = "symlinks are not followed: name where they lead"
            raise NotFound(f"no such path in the image: {shown}", hint) from None
        raise
    root = Trail(None, b"")
    if not stat.S_ISDIR(top.mode):
        yield Trail(root, path), top
    elif recursive:
        yield from ((trail, inode) for trail, inode in image.visit(path) if trail.above is not None)
    else:
        yield from ((Trail(root, name), inode) for name, inode in image.scan(top.ref))


def _long(image: SquashfsImage, trail: Trail, inode: Inode) -> str:
    name = os.fsdecode(trail.shown)
    if not inode.number:
        return f"{stat.filemode(inode.mode)[0]}?????????  {name}"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(inode.mtime))
    size = f"{os.major(inode.rdev)}, {os.minor(inode.rdev)}" if inode.rdev else str(inode.size)
    line = f"{stat.filemode(inode.mode)} {inode.nlink:>3} {inode.uid:>5} {inode.gid:>5} {size:>10} {when} {name}"
    return f"{line} -> {_target(image, inode)}" if stat.S_ISLNK(inode.mode) else line


def _target(image: SquashfsImage, inode: Inode) -> str:
    try:
        return os.fsdecode(image.readlink(inode.ref))
    except SquashfsError as error:
        return f"({reason(error)})"


def _facts(image: SquashfsImage, trail: Trail, inode: Inode) -> dict[str, Any]:
    facts: dict[str, Any] = {"path": os.fsdecode(trail.shown), "type": TYPES[stat.S_IFMT(inode.mode)]}
    if not inode.number:
        return facts | {"damaged": True}
    facts |= {"mode": f"{stat.S_IMODE(inode.mode):04o}", "uid": inode.uid, "gid": inode.gid, "size": inode.size}
    facts |= {"mtime": inode.mtime, "links": inode.nlink, "inode": inode.number}
    facts["target"] = _target(image, inode) if stat.S_ISLNK(inode.mode) else None
    device = stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode)
    facts["rdev"] = [os.major(inode.rdev), os.minor(inode.rdev)] if device else None
    return facts
