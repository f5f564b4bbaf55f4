"""`layerfs snapshot`: the lifecycle of layers by hand, in the words and in the order of `ctr snapshots`."""

import argparse
import os
import shlex
from collections.abc import Callable, Iterable
from typing import Final

from layerfs.cli.screen import size
from layerfs.cli.snapshot_show import as_json, print_info, print_table, print_tree
from layerfs.cli.store import add_root
from layerfs.errors import InvalidArgument
from layerfs.model import Mount
from layerfs.snapshots.library import AUTO, open_store
from layerfs.snapshots.snapshotter import Snapshotter
from layerfs.spec.overlay import print_options
from layerfs.sys.terminal import json_text, one_line
from layerfs.value import replace

VARIABLE: Final = "LAYERFS_SNAPSHOTTER"
DESCRIPTION: Final = """\
Make, mount, commit and remove snapshots: layers with a name, each on top of its parent. A driver keeps their bytes;
`layerfs doctor` says which this host can run. LAYERFS_SNAPSHOTTER=NAME is the one to take where --snapshotter is not
given, else it is the best one."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb and its parts to the command line."""
    parser = subparsers.add_parser(
        "snapshot",
        help="make, mount, commit and remove layers",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = parser.add_subparsers(prog="layerfs snapshot", metavar="VERB", required=True)
    for name, (about, do, add_arguments) in PARTS.items():
        part = parts.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        add_root(part)
        part.add_argument("--snapshotter", metavar="NAME", help="overlay, fuse, btrfs, xar, another's; or auto")
        add_arguments(part)
        part.set_defaults(do=do)


def run(arguments: argparse.Namespace) -> int:
    """Do the part that was asked for."""
    do: Callable[[argparse.Namespace], int] = arguments.do
    return do(arguments)


def _with_snapshots(do: Callable[[Snapshotter, argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Return what opens the store first."""

    def act(arguments: argparse.Namespace) -> int:
        with open_store(arguments.root) as store:
            return do(store.snapshotter(arguments.snapshotter or os.environ.get(VARIABLE) or AUTO), arguments)

    return act


def _prepare(snapshots: Snapshotter, arguments: argparse.Namespace) -> int:
    return _show(snapshots.prepare(arguments.key, arguments.parent, _labels(arguments.label)), arguments)


def _view(snapshots: Snapshotter, arguments: argparse.Namespace) -> int:
    return _show(snapshots.view(arguments.key, arguments.parent, _labels(arguments.label)), arguments)


def _mounts(snapshots: Snapshotter, arguments: argparse.Namespace) -> int:
    return _show(snapshots.mounts(arguments.key), arguments)


def _show(mounts: tuple[Mount, ...], arguments: argparse.Namespace) -> int:
    """Print mounts: commands that a shell would take, or objects."""
    if arguments.json:
        rows = [{"type": mount.type, "source": mount.source, "options": list(mount.options)} for mount in mounts]
        print(json_text(rows))
        return 0
    for mount in mounts:
        words = ["mount", "-t", mount.type, mount.source, "TARGET", "-o", print_options(mount)]
        print(one_line(" ".join(map(shlex.quote, words))))
    return 0


def _commit(snapshots: Snapshotter, arguments: argparse.Namespace) -> int:
    labels = _labels(arguments.label)
    snapshots.commit(arguments.name, arguments.key, labels, parent=arguments.parent, volatile=arguments.volatile)
    return 0


def _rm(snapshots: Snapshotter, arguments: argparse.Namespace) -> int:
    for key in arguments.keys:
        snapshots.remove(key)
    snapshots.cleanup()
    return 0


def _ls(snapshots: Snapshotter, arguments: argparse.Namespace) -> int:
    found = snapshots.walk(*arguments.filters)
    if arguments.json:
        print(json_text([as_json(info) for info in found]))
    elif arguments.tree:
        print_tree(found)
    else:
        print_table(found)
    return 0


def _info(snapshots: Snapshotter, arguments: argparse.Namespace) -> int:
    info = snapshots.stat(arguments.key)
    if arguments.json:
        print(json_text(as_json(info)))
    else:
        print_info(info)
    return 0


def _usage(snapshots: Snapshotter, arguments: argparse.Namespace) -> int:
    keys = arguments.keys or [info.name for info in snapshots.walk()]
    found = {key: snapshots.usage(key) for key in keys}
    if arguments.json:
        shown = [{"name": key, "bytes": one.size, "inodes": one.inodes} for key, one in found.items()]
        print(json_text(shown))
        return 0
    for key, one in found.items():
        print(one_line(f"{size(one.size):>12}  {one.inodes:>8} inodes  {key}"))
    return 0


def _label(snapshots: Snapshotter, arguments: argparse.Namespace) -> int:
    labels = _labels(arguments.labels)
    info = replace(snapshots.stat(arguments.key), labels=labels)
    snapshots.update(info, *(f"labels.{name}" for name in labels))
    return 0


def _mount(snapshots: Snapshotter, arguments: argparse.Namespace) -> int:
    """Mount a snapshot; what is mounted already is unmounted if the rest fails."""
    from layerfs.mounts.apply import mount_all

    mount_all(snapshots.mounts(arguments.key), os.path.realpath(os.fsencode(arguments.directory)))
    return 0


def _umount(arguments: argparse.Namespace) -> int:
    """Unmount, and wait for who served it; that needs no store."""
    from layerfs.mounts.apply import release

    for directory in arguments.directories:
        release(os.path.realpath(os.fsencode(directory)))
    return 0


def _diff(snapshots: Snapshotter, arguments: argparse.Namespace) -> int:
    """Print what a snapshot changes of its parent, or of another one."""
    from layerfs.cli.diff import print_changes
    from layerfs.snapshots.difference import difference

    print_changes(difference(snapshots, arguments.key, arguments.other), as_json=arguments.json)
    return 0


def _labels(words: Iterable[str]) -> dict[str, str]:
    """Return labels given as NAME=VALUE; one without a value is removed."""
    labels = {}
    for word in words:
        name, equals, content = word.partition("=")
        if not name or not equals:
            raise InvalidArgument(f'"{word}" is no label', "give NAME=VALUE, or NAME= to remove one")
        labels[name] = content
    return labels


def _make_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("parent", metavar="PARENT", nargs="?", default="", help="a committed snapshot; none: empty")
    _add_label(parser)
    _add_json(parser, "a list of objects: type, source, options")


def _key_arguments(shape: str) -> Callable[[argparse.ArgumentParser], None]:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("key", metavar="KEY")
        _add_json(parser, shape)

    return add


def _commit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what the committed snapshot is called")
    parser.add_argument("key", metavar="KEY", help="the active snapshot")
    parser.add_argument("--parent", metavar="NAME", default="", help="put one that has no parent on top of this one")
    parser.add_argument("--volatile", action="store_true", help="do not wait for the disk: a power cut may spoil it")
    _add_label(parser)


def _rm_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("keys", metavar="KEY", nargs="+", help="in this order: children before their parents")


def _ls_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "filters", metavar="FILTER", nargs="*", help='containerd\'s: kind==active,labels."a.b"==c; any of several'
    )
    parser.add_argument("--tree", action="store_true", help="show each below its parent")
    _add_json(parser, "a list of objects: name, parent, kind, created, updated, labels")


def _usage_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("keys", metavar="KEY", nargs="*", help="all by default")
    _add_json(parser, "a list of objects: name, bytes, inodes")


def _label_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("labels", metavar="NAME=VALUE", nargs="+", help="NAME= removes one")


def _mount_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("directory", metavar="DIR")


def _umount_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directories", metavar="DIR", nargs="+")


def _diff_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("other", metavar="OTHER", nargs="?", help="another snapshot than the parent")
    _add_json(parser, "a list of objects: change, path")


def _add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--label", metavar="NAME=VALUE", action="append", default=[], help="may be given several times")


def _add_json(parser: argparse.ArgumentParser, shape: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"print {shape}")


_INFO: Final = "an object: name, parent, kind, created, updated, labels"
_MOUNTS: Final = "a list of objects: type, source, options"
_Part = tuple[str, Callable[[argparse.Namespace], int], Callable[[argparse.ArgumentParser], None]]
PARTS: Final[dict[str, _Part]] = {
    "prepare": (
        "make a snapshot that can be written to, and print its mounts",
        _with_snapshots(_prepare),
        _make_arguments,
    ),
    "view": ("make a read-only view of a snapshot, and print its mounts", _with_snapshots(_view), _make_arguments),
    "mounts": ("print the mounts of a snapshot", _with_snapshots(_mounts), _key_arguments(_MOUNTS)),
    "commit": ("make an active snapshot a committed one", _with_snapshots(_commit), _commit_arguments),
    "rm": ("remove snapshots that have no children", _with_snapshots(_rm), _rm_arguments),
    "ls": ("list snapshots", _with_snapshots(_ls), _ls_arguments),
    "info": ("show what is known of a snapshot", _with_snapshots(_info), _key_arguments(_INFO)),
    "usage": ("show what snapshots themselves take", _with_snapshots(_usage), _usage_arguments),
    "label": ("change labels of a snapshot", _with_snapshots(_label), _label_arguments),
    "mount": ("mount a snapshot at a directory", _with_snapshots(_mount), _mount_arguments),
    "umount": ("unmount, and wait for who served it", _umount, _umount_arguments),
    "diff": ("show what a snapshot changes", _with_snapshots(_diff), _diff_arguments),
}
