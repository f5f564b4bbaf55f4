"""`layerfs status`: what is mounted, by which driver and why, and whether it answers."""

import argparse
import json
import os
import sys
import time
from typing import Any, Final

from layerfs.errors import NotFound
from layerfs.model import Driver
from layerfs.mounts.health import Health, MountState, survey
from layerfs.mounts.removal import locate
from layerfs.sys.terminal import one_line

PIPED_WIDTH: Final = 100_000  # columns; a program reads lines, not a screen
COLORS: Final = {Health.SERVING: "green", Health.SILENT: "red", Health.DEAD: "red"}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser(
        "status",
        help="show what is mounted",
        description="Show the mounts of layerfs: driver and why, layers, server, uptime and health. "
        "With MOUNTPOINT the exit status is 1 if that mount does not answer.",
    )
    parser.add_argument("mountpoint", nargs="?", metavar="MOUNTPOINT", help="show this mount alone, in full")
    parser.add_argument("--json", action="store_true", help="print a list of objects")


def run(arguments: argparse.Namespace) -> int:
    """Print the mounts."""
    states = survey()
    if arguments.mountpoint is not None:
        states = _only(os.fsencode(arguments.mountpoint), states)
    if arguments.json:
        print(json.dumps([_as_json(state) for state in states], indent=2))
    elif arguments.mountpoint is not None:
        _print_one(states[0])
    else:
        _print_table(states)
    return int(arguments.mountpoint is not None and states[0].health not in (Health.SERVING, Health.ELSEWHERE))


def _only(path: bytes, states: list[MountState]) -> list[MountState]:
    """Return the newest state of one mountpoint, a mounted one rather than what is left of an earlier one."""
    mountpoint, _ = locate(path)
    found = [state for state in states if state.mountpoint == mountpoint]
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
    """Return for how long a mount has been there [s]; 0 for one that is not."""
    gone = state.health in (Health.UNMOUNTED, Health.DEAD)
    return 0.0 if state.record is None or gone else time.time() - state.record.started


def _print_one(state: MountState) -> None:
    """Print everything that is known of one mount."""
    for key, value in _as_json(state).items():
        if key == "layers":
            for number, layer in enumerate(value):
                print(f"{'layers' if number == 0 else '':<12}{one_line(layer)}")
        elif key == "uptime":
            print(f"{key:<12}{_span(value)}")
        elif key not in ("started", "recorded") and value is not None:
            print(f"{key:<12}{one_line(str(value))}")


def _print_table(states: list[MountState]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if not states:
        print("nothing is mounted by layerfs")
        return
    table = Table("mountpoint", "health", "driver", "layers", "upper", "pid", "uptime", "why", box=None, pad_edge=False)
    for state in states:
        table.add_row(*(escape(cell) if number != 1 else cell for number, cell in enumerate(_cells(state))))
    Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)


def _cells(state: MountState) -> list[str]:
    record, health = state.record, state.health
    color = COLORS.get(health, "yellow")
    cells = [one_line(os.fsdecode(state.mountpoint)), f"[{color}]{health.value}[/{color}]"]
    if record is None:
        return [*cells, Driver.FUSE.value, "?", "?", "?", "?", "not recorded for this user"]
    return [
        *cells,
        record.driver.value,
        str(len(record.stack.lowers)),
        one_line(os.fsdecode(record.stack.upper)) if record.stack.upper else "-",
        str(record.pid or "-"),
        _span(_uptime(state)),
        record.why,
    ]


def _span(seconds: float) -> str:
    """Return a duration in its two largest units."""
    whole = int(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part}{smaller}"
    return f"{whole}s"
