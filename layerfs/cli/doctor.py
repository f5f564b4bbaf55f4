"""`layerfs doctor`: what this host permits, each feature tried, with what to do where it does not."""

import argparse
import os
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from layerfs.cli.table import screen_width
from layerfs.errors import InvalidArgument, LayerfsError, NotFound
from layerfs.sys.mountprobe import MOUNT_PROBES, apart
from layerfs.sys.probe import PROBES, Absent, Area, Feature, Probe, State, scratch_in
from layerfs.sys.terminal import json_text, one_line

_DESCRIPTION = """\
Try every feature of the host that layerfs can use: yes, no and what to do, or not needed and what serves instead. Exit
status 0 if stacks can be mounted, with kernel overlayfs or with FUSE; else 1."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser("doctor", help="try what this host permits", description=_DESCRIPTION)
    parser.add_argument(
        "--dir", metavar="DIR", help="where uppers would be (default: here, else where temporary files are)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print what was found and return the exit status."""
    directory = arguments.dir or _somewhere()
    features = list(examine(os.fsencode(directory)))
    verdict = judge(features)
    if arguments.json:
        _print_json(features, verdict)
    else:
        _print_table(features, verdict, directory)
    return 0 if verdict["kernel"] or verdict["fuse"] else 1


def _somewhere() -> str:
    """Return a directory that can be written to."""
    import tempfile

    return "." if os.access(".", os.W_OK | os.X_OK) else tempfile.gettempdir()


def examine(directory: bytes) -> Iterator[Feature]:
    """Try every feature; those of a directory in a scratch directory within this one."""
    if not os.path.isdir(directory):
        raise NotFound(f"there is no directory {os.fsdecode(directory)}", "give --dir one that you can write to")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise InvalidArgument(f"you cannot write to {os.fsdecode(directory)}", "give --dir one that you can write to")
    with scratch_in(directory) as scratch:
        fuse = Probe(Area.FUSE, "FUSE mounts", _mount_fuse, "see what is said of /dev/fuse and fusermount3")
        found = [probe.run(scratch) for probe in (fuse, *PROBES, *MOUNT_PROBES, *_drivers())]
    order = list(Area)
    yield from sorted(found, key=lambda feature: order.index(feature.area))


def _drivers() -> list[Probe]:
    """Return the probes of the snapshot drivers, best first; `auto` takes the first driver that can run."""
    from layerfs.snapshots import registry

    other = "another driver keeps snapshots"
    return [Probe(Area.SNAPSHOTTERS, name, _driver(name), instead=other) for name in registry.names()]


def _driver(name: str) -> Callable[[bytes], str]:
    def attempt(scratch: bytes) -> str:
        from layerfs.snapshots import registry

        root = os.path.join(scratch, b"driver-" + os.fsencode(name))
        os.mkdir(root, 0o700)
        try:
            registry.load(name, root).check()
        except LayerfsError as error:
            raise Absent(error.message.replace(os.fsdecode(root), "this directory"), error.hint) from error
        return "can keep snapshots here"

    return attempt


def _mount_fuse(scratch: bytes) -> str:
    """Mount FUSE, with nobody to serve it, and let it go."""
    from layerfs.fuse.mount import attach
    from layerfs.spec.attach import AttachOptions
    from layerfs.sys.mounts import unmount

    target = scratch + b"/fuse"
    os.mkdir(target)

    def attempt() -> str:
        try:
            device = attach(target, AttachOptions())
        except LayerfsError as error:
            raise Absent(error.message, error.hint) from error
        os.close(device)
        unmount(target, lazy=True)
        return "mounts"

    return apart(attempt)


def judge(features: list[Feature]) -> dict[str, bool]:
    """Return what can be done with these features: mount by the kernel, mount by FUSE, run without root."""
    present = {(feature.area, feature.name) for feature in features if feature.present}
    return {
        "kernel": (Area.KERNEL, "as root") in present,
        "fuse": (Area.FUSE, "FUSE mounts") in present,
        "run": (Area.KERNEL, "as root") in present or (Area.KERNEL, "in a user namespace") in present,
    }


def _print_json(features: list[Feature], verdict: dict[str, bool]) -> None:

    rows: list[dict[str, Any]] = [
        {
            "area": feature.area.value,
            "feature": feature.name,
            "present": feature.present,
            "state": feature.state.value,
            "detail": feature.detail,
            "remedy": feature.remedy,
            "instead": feature.instead,
        }
        for feature in features
    ]
    print(json_text({"can": verdict, "features": rows}))


def _print_table(features: list[Feature], verdict: dict[str, bool], directory: str) -> None:
    """Print the features, area by area. A step is a line of its own, however narrow the screen: it can be copied."""
    area, width = None, max(len(feature.name) for feature in features)
    for feature in features:
        if feature.area is not area:
            area = feature.area
            print(one_line(f"directory {directory}") if area is Area.DIRECTORY else area.value)
        said = "; ".join(word for word in (_worth_saying(feature), feature.instead) if word and not feature.present)
        said = _worth_saying(feature) if feature.present else said
        line = one_line(f"  {feature.name:<{width}}  {feature.state.value:<{_STATE}}  {said}".rstrip())
        for part in _wrapped(line, width + _STATE + 6):
            print(part)
        for step in feature.remedy.split("; ") if feature.remedy and not feature.present else ():
            print(one_line(f"{' ' * (width + _STATE + 6)}{step}"))
    print()
    for what, sentence in _SENTENCES.items():
        print(sentence[verdict[what]])


def _worth_saying(feature: Feature) -> str:
    """Return the detail, unless it only says yes in other words."""
    return "" if feature.present and feature.detail in _YES else feature.detail


def _wrapped(line: str, indent: int) -> list[str]:
    columns = screen_width()
    if columns is None or len(line) <= columns or columns < indent + _NARROW:
        return [line]
    return textwrap.wrap(line, columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


_STATE = max(len(state.value) for state in State)
_NARROW = 20  # columns of text beside a table are worth breaking a line for; guessed
_YES = (
    "mounts", "opens", "kept", "on", "in one step", "files without a name", "the kernel copies",
    "whiteouts are devices", "can keep snapshots here",
)  # fmt: skip
_SENTENCES = {
    "kernel": ("`layerfs mount` cannot use kernel overlayfs here.", "`layerfs mount` can use kernel overlayfs here."),
    "fuse": ("`layerfs mount` cannot use FUSE here.", "`layerfs mount` can use FUSE here."),
    "run": ("`layerfs run` cannot use kernel overlayfs here.", "`layerfs run` can use kernel overlayfs here."),
}
