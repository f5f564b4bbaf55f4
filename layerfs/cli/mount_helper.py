"""`layerfs-mount`: what podman's mount_program and mount.fuse3 call, in the argument forms of fuse-overlayfs.

    PROGRAM [-f] [-d] -o OPTIONS TARGET               containers/storage: podman, buildah
    PROGRAM SOURCE TARGET -o OPTIONS                  mount.fuse3: mount -t fuse.layerfs, containerd
    PROGRAM --version

The driver is FUSE unless `-o driver=` says otherwise: whoever calls a FUSE program expects a FUSE mount.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from layerfs import __version__
from layerfs.cli.mount import leave
from layerfs.fuse.config import NAME
from layerfs.model import Driver
from layerfs.mounts.launch import launch
from layerfs.mounts.options import MountOptions, parse, request
from layerfs.mounts.process import Process

USAGE: Final = """usage: layerfs-mount [-f] [-d] -o lowerdir=A:B[,upperdir=U,workdir=W][,OPTION...] MOUNTPOINT
       layerfs-mount SOURCE MOUNTPOINT -o lowerdir=A:B[,upperdir=U,workdir=W][,OPTION...]
       layerfs-mount --version | --help

    -o OPTION[,OPTION...]  mount options: those of fuse-overlayfs, mount(8) and layerfs (see README.md)
    -f                     stay in the foreground
    -d, --debug            the same, and log every request to stderr
    -V, --version          print the version
    -h, --help             print this
"""
# mount(8) passes -n (no mtab), -s (sloppy), -v (verbose) and -t TYPE on; libfuse has -s (one thread) too.
_WITHOUT_EFFECT: Final = frozenset(("-n", "-s", "-v"))


@dataclass(slots=True)
class _Words:
    """The command line, taken apart."""

    paths: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    foreground: bool = False
    debug: bool = False


def run(arguments: Sequence[str]) -> int:
    """Mount as the caller asks, and leave at once."""
    if {"--version", "-V"}.intersection(arguments):
        print(f"layerfs-mount: version {__version__}")
        return 0
    if {"--help", "-h"}.intersection(arguments):
        print(USAGE, end="")
        return 0
    words = _take_apart(arguments)
    if words is None:
        sys.stderr.write(USAGE)
        return 2
    options = parse(os.fsencode(text) for text in words.options)
    debug = words.debug or options.debug
    source = os.fsencode(words.paths[0]) if len(words.paths) > 1 else NAME
    wanted = request(_with_source(options, source), os.fsencode(words.paths[-1]), os.getcwdb())
    launch(replace(wanted, driver=options.driver or Driver.FUSE), Process(words.foreground or debug, debug))
    leave()


def _take_apart(arguments: Sequence[str]) -> _Words | None:
    """Return the words by meaning; None if the command line is none of the known forms."""
    words = _Words()
    rest = iter(arguments)
    for word in rest:
        if word == "-o":
            words.options.append(next(rest, ""))
        elif word.startswith("-o"):
            words.options.append(word[2:])
        elif word == "-f":
            words.foreground = True
        elif word in ("-d", "--debug"):
            words.debug = True
        elif word == "-t":
            next(rest, "")
        elif word == "--":
            words.paths += rest
        elif not word.startswith("-"):
            words.paths.append(word)
        elif word not in _WITHOUT_EFFECT:
            print(f"layerfs-mount: unknown argument {word}", file=sys.stderr)
            return None
    return words if 1 <= len(words.paths) <= 2 else None


def _with_source(options: MountOptions, source: bytes) -> MountOptions:
    """Show mount.fuse3's SOURCE as the mount's source, unless fsname= says otherwise."""
    if options.attach.source != NAME:
        return options
    return replace(options, attach=replace(options.attach, source=source))
