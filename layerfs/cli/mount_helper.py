"""`layerfs-mount`: what podman's mount_program and mount.fuse3 call, in the argument forms of fuse-overlayfs.

    PROGRAM [-f] [-d] -o OPTIONS TARGET               containers/storage: podman, buildah
    PROGRAM SOURCE TARGET -o OPTIONS                  mount.fuse3: mount -t fuse.layerfs, containerd
    PROGRAM --version

The driver is FUSE unless `-o driver=` says otherwise: callers of a FUSE program expect a FUSE mount.
"""

import os
import sys
from collections.abc import Sequence
from typing import Final

from layerfs import __version__
from layerfs.cli.argv import take_apart, working_directory
from layerfs.cli.mount import asks_for_help, leave, mount, print_option_help, warn_of_ignored
from layerfs.model import Driver
from layerfs.mounts.packages import complete
from layerfs.mounts.process import Process
from layerfs.mounts.work import resolve
from layerfs.spec.attach import NAME
from layerfs.spec.options import MountOptions, parse, request
from layerfs.sys.reach import see_that_they_answer
from layerfs.value import replace

ASKED: Final = "layerfs-mount serves by FUSE unless -o driver= says otherwise"
USAGE: Final = """usage: layerfs-mount [-f] [-d] -o lowerdir=A:B[,upperdir=U,workdir=W][,OPTION...] MOUNTPOINT
       layerfs-mount SOURCE MOUNTPOINT -o lowerdir=A:B[,upperdir=U,workdir=W][,OPTION...]
       layerfs-mount --version | --help

    -o OPTION[,OPTION...]  mount options: those of fuse-overlayfs, mount(8) and layerfs (see layerfs-mount(1))
    -f                     stay in the foreground
    -d, --debug            the same, and log every request to stderr
    -V, --version          print the version
    -h, --help             print this
"""
# mount(8) passes -n (no mtab), -s (sloppy), -v (verbose) and -t TYPE on; libfuse has -s (one thread) too.
_SWITCHES: Final = {
    "-V": "version",
    "--version": "version",
    "-h": "help",
    "--help": "help",
    "-f": "foreground",
    "-d": "debug",
    "--debug": "debug",
    "-n": "",
    "-s": "",
    "-v": "",
}
_VALUED: Final = {"-o": "options", "-t": "type"}


def run(arguments: Sequence[str]) -> int:
    """Mount as the caller asks, and leave at once."""
    words = take_apart(arguments, _SWITCHES, _VALUED)
    if words is not None and "version" in words.switches:
        print(f"layerfs-mount: version {__version__}")
        return 0
    if words is not None and "help" in words.switches:
        print(USAGE, end="")
        return 0
    if words is not None and asks_for_help(words.values.get("options", ())):
        return print_option_help()
    if words is None or not 1 <= len(words.paths) <= 2:
        sys.stderr.write(USAGE)
        return 2
    options = parse(os.fsencode(text) for text in words.values.get("options", ()))
    warn_of_ignored(options)
    named = (os.path.dirname(words.paths[-1].rstrip("/")) or ".", *options.lowers, options.upper, options.work)
    see_that_they_answer(os.fsencode(path) for path in named if path)
    options = replace(options, work=options.work and resolve(options.work))
    debug = "debug" in words.switches or options.debug
    source = os.fsencode(words.paths[0]) if len(words.paths) > 1 else NAME
    mountpoint = os.fsencode(words.paths[-1])
    given = (mountpoint, *options.lowers, *(path for path in (options.upper, options.work) if path))
    wanted = request(_with_source(options, source), mountpoint, working_directory(*given))
    process = Process(foreground=debug or "foreground" in words.switches, debug=debug)
    found = complete(wanted.stack)
    wanted = replace(wanted, stack=found.stack)
    if options.driver is None:
        wanted = replace(wanted, driver=Driver.FUSE, asked=ASKED)
    mount(wanted, process, found)
    leave(process)


def _with_source(options: MountOptions, source: bytes) -> MountOptions:
    """Show mount.fuse3's SOURCE as the mount's source, unless fsname= says otherwise."""
    if options.attach.source != NAME:
        return options
    return replace(options, attach=replace(options.attach, source=source))
