"""`layerfs umount`: unmount, and return when the upper is free for the next mount."""

import argparse
import os
from functools import partial

from layerfs.cli.guard import guard
from layerfs.mounts.removal import tear_down


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser(
        "umount",
        help="unmount",
        description="Unmount what layerfs mounted, by either driver, and wait until its server is gone. "
        "Also clears away what a killed server left behind. Of several all are tried.",
    )
    parser.add_argument("mountpoints", nargs="+", metavar="MOUNTPOINT")
    parser.add_argument("-l", "--lazy", action="store_true", help="also when it is in use; does not wait")


def run(arguments: argparse.Namespace) -> int:
    """Unmount each path in turn and print each failure; returns 1 if one failed."""
    statuses = [guard(partial(_unmount, mountpoint, arguments.lazy)) for mountpoint in arguments.mountpoints]
    return max(statuses)


def _unmount(mountpoint: str, lazy: bool) -> int:
    tear_down(os.fsencode(mountpoint), lazy=lazy)
    return 0
