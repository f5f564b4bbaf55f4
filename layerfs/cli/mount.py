"""`layerfs mount`: a stack at a mountpoint, in our own words or in those of fuse-overlayfs."""

import os
import sys
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final, NoReturn

from layerfs.cli.argv import take_apart, working_directory
from layerfs.errors import LayerfsError
from layerfs.model import Driver
from layerfs.mounts.asking import asker, decline_if_asked, tell_begun, tell_end
from layerfs.mounts.launch import launch
from layerfs.mounts.packages import Complete, complete
from layerfs.mounts.process import Process
from layerfs.mounts.standby_start import start_standby
from layerfs.mounts.work import make_work, resolve
from layerfs.spec.options import MountOptions, MountRequest, absolute, parse, request, without_effect
from layerfs.sys.reach import see_that_they_answer
from layerfs.sys.terminal import warn as print_warning
from layerfs.value import replace

if TYPE_CHECKING:
    import argparse

    Arguments = argparse.Namespace | SimpleNamespace

DESCRIPTION: Final = """Mount LAYERs (top first) at MOUNTPOINT, writable where --upper is given. A layer is a directory,
a squashfs image, or a XAR, below which all that it depends on is mounted too (`layerfs xar graph` shows it).
The drop-in form is `layerfs mount -o lowerdir=A:B,upperdir=U,workdir=W MOUNTPOINT`."""
_SWITCHES: Final = {
    "-f": "foreground",
    "--foreground": "foreground",
    "--debug": "debug",
    "--lane": "lane",
    "--no-lane": "no_lane",
    "--no-deps": "no_deps",
    "-q": "quiet",
    "--quiet": "quiet",
}
_VALUED: Final = {"--upper": "upper", "--work": "work", "--driver": "driver", "--log": "log", "-o": "options"}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser("mount", help="mount a stack of layers", description=DESCRIPTION)
    parser.add_argument("paths", nargs="*", metavar="LAYER... MOUNTPOINT", help="directories, images; top first")
    parser.add_argument("--upper", metavar="DIR", help="the writable layer; without it the mount is read-only")
    parser.add_argument(
        "--work", metavar="DIR", help="scratch directory on the upper's filesystem (UPPER.work, made if missing)"
    )
    parser.add_argument(
        "--driver",
        choices=[driver.value for driver in Driver],
        help="who serves the mount; auto (the default) takes the kernel where it can, else FUSE",
    )
    parser.add_argument(
        "-o", action="append", default=[], dest="options", metavar="OPT[,OPT...]", help="options: see layerfs-mount(1)"
    )
    parser.add_argument("-f", "--foreground", action="store_true", help="stay in the foreground until unmounted")
    parser.add_argument("--log", metavar="FILE", help="where the FUSE server writes its log")
    parser.add_argument("--debug", action="store_true", help="log every request")
    parser.add_argument("--lane", action="store_true", help="answer natively what can be (the default)")
    parser.add_argument("--no-lane", action="store_true", help="answer no FUSE request natively")
    add_package_options(parser)
    parser.set_defaults(usage=parser.error)


def add_package_options(parser: "argparse.ArgumentParser") -> None:
    """Add what can be said about the XARs among the layers."""
    parser.add_argument("--no-deps", action="store_true", help="mount XARs without what they depend on")
    parser.add_argument("-q", "--quiet", action="store_true", help="do not warn of files that several XARs provide")


def quick(arguments: Sequence[str]) -> SimpleNamespace | None:
    """Return what argparse would make of a well-formed command line; None if it must look at it itself."""
    words = take_apart(arguments, _SWITCHES, _VALUED)
    if words is None or not words.paths or words.last("driver") not in (None, *(driver.value for driver in Driver)):
        return None
    return SimpleNamespace(
        paths=words.paths,
        options=words.values.get("options", []),
        **{name: words.last(name) for name in ("upper", "work", "driver", "log")},
        **{name: name in words.switches for name in ("foreground", "debug", "lane", "no_lane", "no_deps", "quiet")},
        usage=_usage,
    )


def _usage(message: str) -> NoReturn:
    """End with a usage error, in argparse's words."""
    from layerfs.cli.parser import build_parser

    build_parser(("mount",)).parse_args(["mount"]).usage(message)
    raise AssertionError("argparse exits")


def run(arguments: "Arguments") -> int:
    """Mount, and leave by os._exit: the interpreter's own shutdown would cost some milliseconds."""
    if asks_for_help(arguments.options):
        return print_option_help()
    options = parse(os.fsencode(text) for text in arguments.options)
    warn_of_ignored(options)
    see_that_they_answer(_named(arguments, options))
    layers, mountpoint = _paths(arguments, options)
    options = _writable(arguments, replace(options, lowers=layers))
    cwd = working_directory(mountpoint, *layers, *(path for path in (options.upper, options.work) if path))
    log = absolute(os.fsencode(arguments.log), cwd) if arguments.log else None
    wanted = request(options, mountpoint, cwd)
    if arguments.driver:
        asked = f"asked for by --driver={arguments.driver}"
        wanted = replace(wanted, driver=Driver(arguments.driver), asked=asked)
    if arguments.lane or arguments.no_lane:
        wanted = replace(wanted, attach=replace(wanted.attach, lane=not arguments.no_lane))
    found = Complete(wanted.stack) if arguments.no_deps else complete(wanted.stack)
    process = Process(arguments.foreground, arguments.debug or options.debug, log)
    mount(replace(wanted, stack=found.stack), process, Complete(found.stack) if arguments.quiet else found)
    leave(process)


def asks_for_help(strings: Sequence[str]) -> bool:
    """Tell whether `help` is among the options."""
    return any("help" in string.split(",") for string in strings)


def warn_of_ignored(options: MountOptions) -> None:
    """Say on stderr which options have no effect; nothing is said of those that are mount(8)'s own business."""
    for name in without_effect(options.ignored):
        print_warning(f'mount option "{name}" has no effect here')


def print_option_help() -> int:
    """Print what -o takes."""
    from layerfs.cli.table import screen_width
    from layerfs.spec.help import option_help

    print(option_help(screen_width()))
    return 0


def mount(request: MountRequest, process: Process, found: Complete) -> None:
    """Mount, and warn once the mount stands; before, if this process is to be the server."""
    if process.foreground:
        decline_if_asked()
    serves = process.foreground or asker() >= 0
    if serves:
        warn(found)
    tell_begun()
    launch(request, process)
    if not serves:
        warn(found)


def warn(found: Complete) -> None:
    """Tell on stderr which files several packages provide; what cannot be read for that is no reason to fail."""
    try:
        for text in found.warnings():
            print_warning(text)
    except (LayerfsError, OSError) as error:
        print_warning(f"conflicts were not looked for: {error}")


def leave(process: Process) -> NoReturn:
    """Flush and exit with success; a mount in the foreground, which has ended, leaves nobody behind."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # the caller may have closed it
            stream.flush()
    if not tell_end(0) and not process.foreground:
        start_standby()
    os._exit(0)


def _named(arguments: "Arguments", options: MountOptions) -> Iterator[bytes]:
    """Yield all paths that were given; of the mountpoint its parent: the mount itself asks what is mounted there."""
    *layers, mountpoint = map(os.fsencode, arguments.paths or [""])
    yield from (*layers, *options.lowers, os.path.dirname(mountpoint.rstrip(b"/")) or b".")
    given = (arguments.upper, arguments.work, options.upper, options.work)
    yield from (os.fsencode(path) for path in given if path)


def _paths(arguments: "Arguments", options: MountOptions) -> tuple[tuple[bytes, ...], bytes]:
    """Return the layers and the mountpoint; the layers may come with -o instead."""
    *layers, mountpoint = map(os.fsencode, arguments.paths or arguments.usage("no MOUNTPOINT"))
    if layers and options.lowers:
        arguments.usage("layers are given both as arguments and with -o lowerdir")
    if not layers and not options.lowers:
        arguments.usage("no LAYER; give LAYER... MOUNTPOINT, or -o lowerdir=A:B MOUNTPOINT")
    if not all(map(os.path.lexists, layers)):  # perhaps an image's name
        from layerfs.cli.stacking import expand

        layers = expand(layers)
    return tuple(layers) or options.lowers, mountpoint


def _writable(arguments: "Arguments", options: MountOptions) -> MountOptions:
    """Return the options with the upper and the work directory, wherever they were given."""
    if (arguments.upper and options.upper) or (arguments.work and options.work):
        arguments.usage("the upper or work directory is given twice, also with -o")
    upper = os.fsencode(arguments.upper) if arguments.upper else options.upper
    work = os.fsencode(arguments.work) if arguments.work else options.work
    if upper and not work:
        return replace(options, upper=upper, work=make_work(upper))
    return replace(options, upper=upper, work=work and resolve(work))
