"""`layerfs xar mount`: mount a XAR where all its callers share it, and print where."""

import os
import sys
from typing import TYPE_CHECKING

from layerfs.errors import InvalidArgument
from layerfs.mounts.standby_start import start_standby
from layerfs.sys.terminal import one_line
from layerfs.xarexec.share import TIMEOUT, mount
from layerfs.xarexec.xarfile import examine, mountpoint_of

if TYPE_CHECKING:
    import argparse

DESCRIPTION = """\
Mount FILE and what it depends on, read-only, and print where. Everybody who asks for the same FILE as the same user, in
the same mount namespace, gets the same mount: in the file's MOUNT_ROOT, else in /mnt/xarfuse, /dev/shm or
$XDG_RUNTIME_DIR, whichever can be used first. It goes when it has not been used for a while. A FILE that has changed
gets another mount."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line of `layerfs xar`."""
    parser = subparsers.add_parser("mount", help="mount a XAR and print where", description=DESCRIPTION)
    parser.add_argument("file", metavar="FILE", help="the XAR")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("-m", action="store_true", help="mount and print where: the default, as xarexec has it")
    what.add_argument("-n", action="store_true", dest="only_print", help="only print where it would be mounted")
    what.add_argument("--unmount", action="store_true", help="unmount it, unless it is in use")
    add_timeout(parser)


def add_timeout(parser: "argparse.ArgumentParser") -> None:
    """Add the option that `mount` and `exec` share."""
    parser.add_argument(
        "--timeout",
        type=_known,
        metavar="SECONDS",
        help="unmount after this time without use, 0 for never; of whoever makes the mount "
        f"($XAR_MOUNT_TIMEOUT, else {TIMEOUT:.0f})",
    )


def run(args: "argparse.Namespace") -> int:
    """Mount, or what was asked for instead."""
    if args.only_print:
        return print_mountpoint(args.file)
    if args.unmount:
        from layerfs.xarexec.serve import unmount_now

        unmount_now(os.fsencode(args.file))
        return 0
    return print_mount(args.file, seconds(args.timeout))


def print_mountpoint(file: str) -> int:
    """Print where a XAR would be mounted."""
    _say(mountpoint_of(examine(os.fsencode(file))))
    return 0


def print_mount(file: str, timeout: float) -> int:
    """Mount a XAR and print where."""
    shared = mount(os.fsencode(file), timeout)
    os.close(shared.root)
    _say(shared.path)
    sys.stdout.flush()
    if shared.cold:
        start_standby()
    os._exit(0)  # the interpreter's farewell takes longer than all of this


def _say(path: bytes) -> None:
    """Print a path: as it is for a program, as something printable for a person."""
    text = os.fsdecode(path)
    print(one_line(text) if sys.stdout.isatty() else text)


def _known(text: str) -> str:
    """Return an option's value if it is a time; ValueError is argparse's word for a usage error."""
    try:
        seconds(text)
    except InvalidArgument as error:
        raise ValueError from error
    return text


_known.__name__ = "time"  # what argparse calls it: invalid time value


def seconds(given: str | None) -> float:
    """Return the time without use after which a mount goes [s], 0 for never, from an option or the environment."""
    text = os.environ.get("XAR_MOUNT_TIMEOUT") if given is None else given
    if text is None:
        return TIMEOUT
    try:
        value = float(text or 0)  # xarexec_fuse takes an empty one for 0
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InvalidArgument(f'"{text}" is no time without use', "give seconds, such as 870, or 0 for never")
    return value
