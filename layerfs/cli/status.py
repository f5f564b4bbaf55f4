"""`layerfs status`: what is mounted, by which driver and why, and whether it answers."""

import argparse
import os
import time
from typing import Any, Final

from layerfs.cli.table import lay_out, screen_width
from layerfs.errors import NotFound
from layerfs.model import Driver
from layerfs.mounts.health import MEANINGS, Health, MountState, survey
from layerfs.mounts.registry import MountRecord
from layerfs.mounts.removal import locate
from layerfs.sys.terminal import json_text, one_line

COLUMNS: Final = ("mountpoint", "health", "driver", "layers", "pid", "uptime")
_GOOD: Final = (Health.SERVING, Health.ELSEWHERE)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    meanings = "\n".join(f"  {health.value:<10}{meaning}" for health, meaning in MEANINGS.items())
    parser = subparsers.add_parser(
        "status",
        help="show what is mounted",
        description="Show the mounts of layerfs: health, driver and why it serves, layers, server and uptime.\n"
        "With MOUNTPOINT the exit status is 1 if that mount does not answer.",
        epilog=f"health is one of\n{meanings}\n\nA stack with an image on top is named by the image's file. What a "
        "server warns of is in the file\nthat MOUNTPOINT shows as log, once there is something in it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("mountpoint", nargs="?", metavar="MOUNTPOINT", help="show this mount (or XAR) alone, in full")
    parser.add_argument("--json", action="store_true", help="print a list of objects")


def run(arguments: argparse.Namespace) -> int:
    """Print the mounts."""
    states = survey()
    if arguments.mountpoint is not None:
        states = _only(os.fsencode(arguments.mountpoint), states)
    if arguments.json:
        print(json_text([_as_json(state) for state in states]))
    elif arguments.mountpoint is not None:
        _print_one(states[0])
    else:
        _print_table(states)
    return int(arguments.mountpoint is not None and states[0].health not in _GOOD)


def _only(path: bytes, states: list[MountState]) -> list[MountState]:
    """Return the newest state of one mountpoint, a mounted one rather than what is left of an earlier one."""
    mountpoint, _ = locate(path)
    found = [state for state in states if state.mountpoint == mountpoint]
    found = found or [state for state in states if state.record and state.record.image == mountpoint]
    if not found:
        raise NotFound(f"{os.fsdecode(path)} is not a mount of layerfs", "layerfs status shows those there are")
    return [max(found, key=lambda state: state.health is not Health.UNMOUNTED)]


def _as_json(state: MountState) -> dict[str, Any]:
    record = state.record
    shown: dict[str, Any] = {
        "mountpoint": os.fsdecode(state.mountpoint),
        "health": state.health.value,
        "driver": (record.driver if record else Driver.FUSE).value,
    }
    if record is None:
        return {**shown, "recorded": False}
    stack = record.stack
    return {
        **shown,
        "recorded": True,
        "why": record.why,
        "layers": [os.fsdecode(lower) for lower in stack.lowers],
        "upper": os.fsdecode(stack.upper) if stack.upper else None,
        "work": os.fsdecode(stack.work) if stack.work else None,
        "options": record.options,
        "pid": record.pid or None,
        "started": record.started,
        "uptime": round(_uptime(state), 3),
        "log": os.fsdecode(record.log) if record.log and os.path.exists(record.log) else None,
    }


def _uptime(state: MountState) -> float:
    """Return the age of a mount [s]; 0 if it is gone."""
    gone = state.health in (Health.UNMOUNTED, Health.DEAD)
    return 0.0 if state.record is None or gone else time.time() - state.record.started


def _print_one(state: MountState) -> None:
    """Print everything that is known of one mount."""
    for key, value in _as_json(state).items():
        if key == "layers":
            for number, layer in enumerate(value):
                print(f"{'layers' if number == 0 else '':<12}{one_line(layer)}")
        elif key == "health":
            print(f"{key:<12}{value}: {MEANINGS[state.health]}")
        elif key == "uptime":
            print(f"{key:<12}{_span(value)}")
        elif key not in ("started", "recorded") and value is not None:
            print(f"{key:<12}{one_line(str(value))}")
    if state.record is None:
        print(f"{'recorded':<12}not for this user{_by(state)}")


def _print_table(states: list[MountState]) -> None:
    if not states:
        print("nothing is mounted by layerfs")
        return
    rows = [[one_line(cell) for cell in _cells(state)] for state in states]
    details = [[(name, one_line(text)) for name, text in _details(state)] for state in states]
    for line in lay_out(COLUMNS, rows, details, screen_width()):
        print(line)


def _cells(state: MountState) -> list[str]:
    record, cells = state.record, [os.fsdecode(state.mountpoint), state.health.value]
    if record is None:
        return [*cells, Driver.FUSE.value, "?", "?", "?"]
    return [*cells, record.driver.value, _layers(record), str(record.pid or "-"), _span(_uptime(state))]


def _layers(record: MountRecord) -> str:
    """Return how many layers there are; those of an image by its file's name."""
    count, image = len(record.stack.lowers), record.image
    if image is None:
        return str(count)
    return os.fsdecode(os.path.basename(image)) + (f" +{count - 1}" if count > 1 else "")


def _details(state: MountState) -> list[tuple[str, str]]:
    """Return the details of a row, the first to go below it on a narrow screen."""
    record = state.record
    if record is None:
        return [("upper", "?"), ("why", f"not recorded for this user{_by(state)}")]
    return [("upper", os.fsdecode(record.stack.upper) if record.stack.upper else "-"), ("why", record.why)]


def _by(state: MountState) -> str:
    return "" if state.owner is None else f" (mounted by uid {state.owner})"


def _span(seconds: float) -> str:
    """Return a duration in its two largest units."""
    whole = int(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part}{smaller}"
    return f"{whole}s"
