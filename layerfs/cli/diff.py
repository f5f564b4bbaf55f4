"""`layerfs diff`: what a mount's upper changes of the layers below it."""

import argparse
import os

from layerfs.errors import InvalidArgument, NotFound
from layerfs.lowers.changes import PathChange, changes, changes_by_marks
from layerfs.model import Stack
from layerfs.mounts import registry
from layerfs.mounts.removal import locate
from layerfs.mounts.work import SUFFIX
from layerfs.spec.options import absolute
from layerfs.sys.terminal import json_text, one_line


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser(
        "diff",
        help="show what an upper changes",
        description="Print each added (A), modified (M) and deleted (D) path, sorted. A file is modified once it was "
        "copied up, a directory when its owner, mode or xattrs differ; a deleted directory stands for all that was in "
        "it. A bare upper that no mount uses needs its lowers for this; without --lower its marks alone are read: what "
        "bears no mark of a copy-up is then taken for added, and what an opaque directory hides is not listed.",
    )
    parser.add_argument("path", metavar="MOUNTPOINT|UPPER")
    parser.add_argument("--lower", action="append", default=[], metavar="DIR", help="a layer below; top first")
    parser.add_argument("--json", action="store_true", help="print a list of objects")


def run(arguments: argparse.Namespace) -> int:
    """Print the changes."""
    upper, stack = _stack(os.fsencode(arguments.path), tuple(map(os.fsencode, arguments.lower)))
    found = changes(upper, stack.lowers, stack.offset) if stack.lowers else changes_by_marks(upper)
    print_changes(found, as_json=arguments.json)
    return 0


def print_changes(found: list[PathChange], *, as_json: bool) -> None:
    """Print changed paths: a line each, or a list of objects."""
    if as_json:
        shown = [{"change": c.action.value, "path": os.fsdecode(c.path)} for c in found]
        print(json_text(shown))
        return
    for change in found:
        print(one_line(f"{change.action.value} {os.fsdecode(change.path)}"))


def _stack(path: bytes, lowers: tuple[bytes, ...]) -> tuple[bytes, Stack]:
    """Return the upper and the lowers that a path means: a recorded mount's, or its own and those that were given."""
    mountpoint, mounted = locate(path)
    records = registry.records()[::-1]
    here = [record for record in records if record.mountpoint == mountpoint]
    record = next((record for record in here if mounted and record.mount_id == mounted.id), None)
    if record is None and mounted and mounted.type in (b"fuse.layerfs", b"overlay"):
        raise NotFound(
            f"the mount at {os.fsdecode(mountpoint)} is not recorded for this user", "name its upper instead"
        )
    if record is None:
        if not os.path.isdir(path):
            raise NotFound(f"no such mountpoint or upper: {os.fsdecode(path)}", "layerfs status shows what is mounted")
        record = next((e for e in records if e.stack.upper and _same(e.stack.upper, path)), None)
        if record is None and not lowers:
            _refuse_mountpoint(path, here)
        if record is None or lowers:
            return path, Stack(tuple(absolute(lower, os.getcwdb()) for lower in lowers))
    if record.stack.upper is None:
        raise InvalidArgument(
            f"the mount at {os.fsdecode(mountpoint)} has no upper", "it is read-only: nothing changes"
        )
    return record.stack.upper, Stack(lowers) if lowers else record.stack


def _refuse_mountpoint(path: bytes, recorded: list[registry.MountRecord]) -> None:
    """Raise NotFound for a mountpoint without its mount, which must not look like an upper that changes nothing."""
    shown = os.fsdecode(path)
    if recorded:
        upper = recorded[0].stack.upper
        hint = f"mount it, or name its upper, {os.fsdecode(upper)}" if upper else "mount it first"
        raise NotFound(f"{shown} is not mounted any more", hint)
    if not os.listdir(path) and not os.path.isdir(os.path.realpath(path) + SUFFIX):
        raise NotFound(f"{shown} is not mounted, and empty", "mount it; if it is an upper, name its layers by --lower")


def _same(one: bytes, other: bytes) -> bool:
    return os.path.isdir(one) and os.path.samefile(one, other)
