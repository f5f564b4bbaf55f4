"""`layerfs snapshot`: the lifecycle of layers by hand, in the words and in the order of `ctr snapshots`."""

import os
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

from layerfs.cli.grammar import Grammar, Option, Word, add_to, read
from layerfs.errors import InvalidArgument
from layerfs.model import Mount
from layerfs.spec.overlay import print_options
from layerfs.sys.terminal import json_text, one_line
from layerfs.value import replace

if TYPE_CHECKING:
    import argparse

    from layerfs.snapshots.library import Store
    from layerfs.snapshots.snapshotter import Snapshotter

    Arguments = argparse.Namespace | SimpleNamespace

OURS: Final = "fuse3.layerfs-mount"
VARIABLE: Final = "LAYERFS_SNAPSHOTTER"
DESCRIPTION: Final = """\
Make, mount, commit and remove snapshots: layers with a name, each on top of its parent. A driver keeps their bytes;
`layerfs doctor` says which this host can run. LAYERFS_SNAPSHOTTER=NAME is the one to take where --snapshotter is not
given, else it is the best one."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb and its parts to the command line."""
    from argparse import RawDescriptionHelpFormatter

    parser = subparsers.add_parser(
        "snapshot",
        help="make, mount, commit and remove layers",
        description=DESCRIPTION,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parts = parser.add_subparsers(prog="layerfs snapshot", metavar="VERB", required=True)
    for name, (about, do, grammar) in PARTS.items():
        part = parts.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        add_to(part, grammar)
        part.set_defaults(do=do)


def quick(arguments: Sequence[str]) -> SimpleNamespace | None:
    """Return what argparse would make of a well-formed command line; None if it must look at it itself."""
    if not arguments or arguments[0] not in PARTS:
        return None
    _, do, grammar = PARTS[arguments[0]]
    found = read(arguments[1:], grammar)
    if found is not None:
        found.do = do
    return found


def run(arguments: "Arguments") -> int:
    """Do the part that was asked for."""
    do: Callable[[Arguments], int] = arguments.do
    return do(arguments)


def _with_snapshots(do: Callable[["Snapshotter", "Arguments"], int]) -> Callable[["Arguments"], int]:
    """Return the verb as a function that opens the store first."""

    def act(arguments: "Arguments") -> int:
        with _store(arguments) as store:
            return do(_snapshotter(store, arguments), arguments)

    return act


def _store(arguments: "Arguments") -> "Store":
    from layerfs.snapshots.library import open_store  # 15 ms, which `umount` need not pay

    return open_store(arguments.root)


def _snapshotter(store: "Store", arguments: "Arguments") -> "Snapshotter":
    return store.snapshotter(arguments.snapshotter or os.environ.get(VARIABLE) or "auto")


def _prepare(snapshots: "Snapshotter", arguments: "Arguments") -> int:
    return _show(snapshots.prepare(arguments.key, arguments.parent, _local(arguments.label)), arguments)


def _view(snapshots: "Snapshotter", arguments: "Arguments") -> int:
    return _show(snapshots.view(arguments.key, arguments.parent, _local(arguments.label)), arguments)


def _mounts(snapshots: "Snapshotter", arguments: "Arguments") -> int:
    return _show(snapshots.mounts(arguments.key), arguments)


def _show(mounts: tuple[Mount, ...], arguments: "Arguments") -> int:
    """Print mounts: commands that a shell would take, or objects."""
    import shlex

    if arguments.json:
        rows = [{"type": mount.type, "source": mount.source, "options": list(mount.options)} for mount in mounts]
        print(json_text(rows))
        return 0
    for mount in mounts:
        words = ["mount", "-t", mount.type, mount.source, "TARGET", "-o", print_options(mount)]
        print(one_line(" ".join(map(shlex.quote, words))))
    return 0


def _commit(snapshots: "Snapshotter", arguments: "Arguments") -> int:
    labels = _local(arguments.label)
    snapshots.commit(arguments.name, arguments.key, labels, parent=arguments.parent, volatile=arguments.volatile)
    return 0


def _rm(snapshots: "Snapshotter", arguments: "Arguments") -> int:
    for key in arguments.keys:
        snapshots.remove(key)
    snapshots.cleanup()
    return 0


def _ls(snapshots: "Snapshotter", arguments: "Arguments") -> int:
    from layerfs.cli.snapshot_show import as_json, print_table, print_tree

    found = snapshots.walk(*arguments.filters)
    if arguments.json:
        print(json_text([as_json(info) for info in found]))
    elif arguments.tree:
        print_tree(found)
    else:
        print_table(found)
    return 0


def _info(snapshots: "Snapshotter", arguments: "Arguments") -> int:
    from layerfs.cli.snapshot_show import as_json, print_info

    info = snapshots.stat(arguments.key)
    if arguments.json:
        print(json_text(as_json(info)))
    else:
        print_info(info)
    return 0


def _usage(snapshots: "Snapshotter", arguments: "Arguments") -> int:
    from layerfs.cli.screen import size

    keys = arguments.keys or [info.name for info in snapshots.walk()]
    found = {key: snapshots.usage(key) for key in keys}
    if arguments.json:
        shown = [{"name": key, "bytes": one.size, "inodes": one.inodes} for key, one in found.items()]
        print(json_text(shown))
        return 0
    for key, one in found.items():
        print(one_line(f"{size(one.size):>12}  {one.inodes:>8} inodes  {key}"))
    return 0


def _label(snapshots: "Snapshotter", arguments: "Arguments") -> int:
    labels = _labels(arguments.labels)
    info = replace(snapshots.stat(arguments.key), labels=labels)
    snapshots.update(info, *(f"labels.{name}" for name in labels))
    return 0


def _mount(arguments: "Arguments") -> int:
    """Mount a snapshot; what is mounted already is unmounted if the rest fails."""
    with _store(arguments) as store:
        mounts = _snapshotter(store, arguments).mounts(arguments.key)
    target = os.path.realpath(os.fsencode(arguments.directory))
    if len(mounts) == 1 and mounts[0].type == OURS:
        from layerfs.cli.mount_helper import run as help_mount  # the same program, without starting it

        return help_mount([mounts[0].source, os.fsdecode(target), "-o", print_options(mounts[0])])
    from layerfs.mounts.apply import mount_all

    mount_all(mounts, target)
    return 0


def _umount(arguments: "Arguments") -> int:
    """Unmount, and wait for the server's end; that needs no store."""
    from layerfs.mounts.apply import release

    for directory in arguments.directories:
        release(os.path.realpath(os.fsencode(directory)))
    return 0


def _diff(snapshots: "Snapshotter", arguments: "Arguments") -> int:
    """Print what a snapshot changes of its parent, or of another one."""
    from layerfs.cli.diff import print_changes
    from layerfs.snapshots.difference import difference

    print_changes(difference(snapshots, arguments.key, arguments.other), as_json=arguments.json)
    return 0


def _local(words: Iterable[str]) -> dict[str, str]:
    """Return the labels of a snapshot that is made by hand: a containerd that uses this store is not shown it."""
    from layerfs.snapshots.leftovers import LOCAL

    return {LOCAL: "1"} | _labels(words)


def _labels(words: Iterable[str]) -> dict[str, str]:
    """Return labels given as NAME=VALUE; one without a value is removed."""
    labels = {}
    for word in words:
        name, equals, content = word.partition("=")
        if not name or not equals:
            raise InvalidArgument(f'"{word}" is no label', "give NAME=VALUE, or NAME= to remove one")
        labels[name] = content
    return labels


_ROOT: Final = Option("--root", "the store (LAYERFS_ROOT; else root's or the user's own)", "DIR")
_DRIVER: Final = Option("--snapshotter", "overlay, fuse, btrfs, xar, another's; or auto", "NAME")
_COMMON: Final = (_ROOT, _DRIVER)
_LABEL: Final = Option("--label", "may be given several times", "NAME=VALUE", many=True)
_KEY: Final = Word("key", "KEY")


def _json(shape: str) -> Option:
    return Option("--json", f"print {shape}")


_FIELDS: Final = "name, parent, kind, created, updated, labels"
_INFO: Final = _json(f"an object: {_FIELDS}")
_MOUNTS: Final = _json("a list of objects: type, source, options")
_MAKE: Final = Grammar(
    (_KEY, Word("parent", "PARENT", "a committed snapshot; none: empty", "?", "")), (*_COMMON, _LABEL, _MOUNTS)
)
_Part = tuple[str, Callable[["Arguments"], int], Grammar]
PARTS: Final[dict[str, _Part]] = {
    "prepare": ("make a snapshot that can be written to, and print its mounts", _with_snapshots(_prepare), _MAKE),
    "view": ("make a read-only view of a snapshot, and print its mounts", _with_snapshots(_view), _MAKE),
    "mounts": ("print the mounts of a snapshot", _with_snapshots(_mounts), Grammar((_KEY,), (*_COMMON, _MOUNTS))),
    "commit": (
        "make an active snapshot a committed one",
        _with_snapshots(_commit),
        Grammar(
            (Word("name", "NAME", "what the committed snapshot is called"), Word("key", "KEY", "the active snapshot")),
            (
                *_COMMON,
                Option("--parent", "put one that has no parent on top of this one", "NAME", ""),
                Option("--volatile", "do not wait for the disk: a power cut may spoil it"),
                _LABEL,
            ),
        ),
    ),
    "rm": (
        "remove snapshots that have no children",
        _with_snapshots(_rm),
        Grammar((Word("keys", "KEY", "in this order: children before their parents", "+"),), _COMMON),
    ),
    "ls": (
        "list snapshots",
        _with_snapshots(_ls),
        Grammar(
            (Word("filters", "FILTER", 'containerd\'s: kind==active,labels."a.b"==c; any of several', "*"),),
            (*_COMMON, Option("--tree", "show each below its parent"), _json(f"a list of objects: {_FIELDS}")),
        ),
    ),
    "info": ("show what is known of a snapshot", _with_snapshots(_info), Grammar((_KEY,), (*_COMMON, _INFO))),
    "usage": (
        "show what snapshots themselves take",
        _with_snapshots(_usage),
        Grammar(
            (Word("keys", "KEY", "all by default", "*"),), (*_COMMON, _json("a list of objects: name, bytes, inodes"))
        ),
    ),
    "label": (
        "change labels of a snapshot",
        _with_snapshots(_label),
        Grammar((_KEY, Word("labels", "NAME=VALUE", "NAME= removes one", "+")), _COMMON),
    ),
    "mount": ("mount a snapshot at a directory", _mount, Grammar((_KEY, Word("directory", "DIR")), _COMMON)),
    "umount": (
        "unmount, and wait until its server has ended",
        _umount,
        Grammar((Word("directories", "DIR", "", "+"),), _COMMON),
    ),
    "diff": (
        "show what a snapshot changes",
        _with_snapshots(_diff),
        Grammar(
            (_KEY, Word("other", "OTHER", "another snapshot than the parent", "?")),
            (*_COMMON, _json("a list of objects: change, path")),
        ),
    ),
}
