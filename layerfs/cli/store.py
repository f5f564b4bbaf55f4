"""`layerfs store`: what a store of snapshots and blobs takes, whether it is sound, and what nobody needs any more."""

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from layerfs.cli.screen import bar, size
from layerfs.snapshots.library import Store, open_store
from layerfs.store.info import SnapshotKind
from layerfs.sys.terminal import json_text, one_line

if TYPE_CHECKING:
    from layerfs.snapshots.maintenance import Fault, Tally

DESCRIPTION: Final = """\
Look after a store of snapshots and of the blobs of images. Root's is /var/lib/layerfs, a user's is
~/.local/share/layerfs (XDG_DATA_HOME); LAYERFS_ROOT=DIR or --root DIR takes another one."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb and its parts to the command line."""
    parser = subparsers.add_parser("store", help="look after snapshots and blobs", description=DESCRIPTION)
    parts = parser.add_subparsers(prog="layerfs store", metavar="VERB", required=True)
    for name, (about, do, shape) in PARTS.items():
        part = parts.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.{ABOUT.get(name, '')}")
        add_root(part)
        part.add_argument("--json", action="store_true", help=f"print {shape}")
        if name == "check":
            part.add_argument("--repair", action="store_true", help="mend what can be mended")
        part.set_defaults(do=do)


def add_root(parser: argparse.ArgumentParser) -> None:
    """Add the option that says which store is meant."""
    parser.add_argument("--root", metavar="DIR", help="the store (LAYERFS_ROOT; else root's or the user's own)")


def run(arguments: argparse.Namespace) -> int:
    """Do the part that was asked for."""
    do: Callable[[Store, argparse.Namespace], int] = arguments.do
    with open_store(arguments.root) as store:
        return do(store, arguments)


def _check(store: Store, arguments: argparse.Namespace) -> int:
    """Check everything; exit status 1 if faults remain."""
    from layerfs.snapshots.maintenance import check

    with bar("checking") as tell:
        faults = check(store, repair=arguments.repair, progress=tell)
    if arguments.json:
        rows = [{"where": fault.where, "what": fault.what, "mended": fault.mended} for fault in faults]
        print(json_text({"faults": rows}))
    else:
        _say(faults, arguments.repair)
    return int(any(not fault.mended for fault in faults))


def _say(faults: "list[Fault]", repaired: bool) -> None:
    for fault in faults:
        print(one_line(f"{fault.where}: {fault.what}{' (mended)' if fault.mended else ''}"))
    if not faults:
        print("nothing is wrong")
    elif not repaired:
        print("layerfs: `layerfs store check --repair` mends what can be mended", file=sys.stderr)


def _gc(store: Store, arguments: argparse.Namespace) -> int:
    """Collect, and print what was removed."""
    from layerfs.mounts import registry

    registry.prune()
    mounted = {lower for record in registry.records() for lower in record.stack.lowers}
    from layerfs.snapshots.maintenance import collect

    with bar("collecting"):
        done = collect(store, mounted)
    evicted = done.content.evicted
    freed = sum(entry.size for entry in evicted)
    if arguments.json:
        found = {
            "snapshots": done.snapshots,
            "blobs": [f"sha256:{entry.sha256}" for entry in evicted],
            "bytes": freed,
            "leftovers": done.content.leftovers,
            "in_use": [f"sha256:{entry.sha256}" for entry in done.content.spared],
        }
        print(json_text(found))
        return 0
    said = [f"{done.snapshots} removed snapshots"] if done.snapshots else []
    said += [f"{len(evicted)} blobs ({size(freed)})"] if evicted else []
    said += [f"{done.content.leftovers} leftovers"] if done.content.leftovers else []
    print(f"collected: {', '.join(said)}" if said else "nothing to collect")
    return 0


def _usage(store: Store, arguments: argparse.Namespace) -> int:
    """Count, and print what the store takes."""
    from layerfs.snapshots.maintenance import tally

    with bar("counting") as tell:
        found = tally(store, tell)
    blobs = store.content.all()
    total = sum(blob.size for blob in blobs)
    if arguments.json:
        drivers = {name: _as_json(one) for name, one in found.items()}
        print(json_text({"drivers": drivers, "content": {"blobs": len(blobs), "bytes": total}}))
        return 0
    for name, one in found.items():
        counts = ", ".join(f"{one.counts[kind]} {kind.word}" for kind in reversed(SnapshotKind))
        print(f"{name}: {counts}; {size(one.committed.size)} committed, {size(one.active.size)} active")
    if blobs:
        print(f"content: {len(blobs)} blobs, {size(total)}")
    if not found and not blobs:
        print("the store is empty")
    return 0


def _as_json(one: "Tally") -> dict[str, Any]:
    return {
        "snapshots": {kind.word: one.counts[kind] for kind in SnapshotKind},
        "committed": {"bytes": one.committed.size, "inodes": one.committed.inodes},
        "active": {"bytes": one.active.size, "inodes": one.active.inodes},
    }


ABOUT: Final = {
    "gc": " Snapshots that layerfs unpacked for an image go too, once no image holds them and nothing stands on them."
    " What `layerfs snapshot` or containerd made is never removed, nor a blob that an image holds or somebody uses.",
    "check": " What was merely interrupted is no fault: whoever opens a store settles that.",
    "usage": " Committed snapshots count as they were at commit, active ones are counted now.",
}
_Part = tuple[str, Callable[[Store, argparse.Namespace], int], str]
PARTS: Final[dict[str, _Part]] = {
    "check": (
        "look whether ledger, directories and blobs are sound (exit status 1 if not)",
        _check,
        "an object: faults, a list of objects: where, what, mended",
    ),
    "gc": (
        "give back what removed snapshots took, and remove blobs and layers of images that nothing needs",
        _gc,
        "an object: snapshots, blobs, bytes, leftovers, in_use",
    ),
    "usage": ("say what the store takes", _usage, "an object: drivers, content"),
}
