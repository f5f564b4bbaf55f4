"""`layerfs run`: a command in a merged tree that nobody else sees, without root where the host permits it."""

import argparse
import os
from typing import TYPE_CHECKING

from layerfs.cli.argv import working_directory
from layerfs.cli.mount import add_package_options, warn
from layerfs.errors import WrongUsage
from layerfs.model import Driver, Stack
from layerfs.mounts.packages import Complete, complete
from layerfs.mounts.work import make_work, resolve
from layerfs.spec.options import absolute
from layerfs.sys.reach import see_that_they_answer

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_USAGE = "%(prog)s LAYER... [--upper DIR [--work DIR]] [--root] -- COMMAND [ARGUMENT...]"
_DESCRIPTION = """\
Stack LAYERs (top first) in a private mount, run COMMAND there, and return its exit status (128 + N for signal N, 127
when it is not found, 126 when it cannot be run). Without root this takes a user namespace, in which you are id 0, with
your ranges of /etc/subuid and /etc/subgid after it. COMMAND starts in the merged tree, whose path is in LAYERFS_ROOT.
Everything is gone when COMMAND ends; without --upper also all that it wrote. Not a jail: the network, and without
--root the host's files, are there as usual."""


def add_parser(subparsers: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb and its options."""
    parser = subparsers.add_parser(
        "run",
        help="run a command in a private merged tree",
        usage=_USAGE,
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_options(parser)
    # argparse would lose the `--` among positional arguments; `_parse_words` splits at it.
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="LAYER... -- COMMAND", help="top layer first")
    parser.set_defaults(run=run)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--upper", metavar="DIR", help="keep what is written here (default: memory)")
    parser.add_argument("--work", metavar="DIR", help="scratch of the upper, on the same filesystem (UPPER.work)")
    parser.add_argument("--root", action="store_true", help="make the tree the root, with /proc, /dev and /sys in it")
    parser.add_argument(
        "--driver", choices=[driver.value for driver in Driver], default="auto", help="who serves the mount"
    )
    add_package_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from layerfs.mounts.sandbox import Job
    from layerfs.mounts.sandbox import run as run_job
    from layerfs.mounts.scratch import scratch_directory

    layers, command = _parse_words(args)
    _refuse_work_alone(args.upper, args.work)
    see_that_they_answer(os.fsencode(path) for path in (*layers, args.upper, args.work) if path)
    if len(layers) == 1 and not os.path.lexists(layers[0]):
        from layerfs.cli.image_run import run_image

        return run_image(layers[0], command, driver=Driver(args.driver))
    stack = _stack(layers, args.upper, args.work)
    found = Complete(stack) if args.no_deps else complete(stack)
    if not args.quiet:
        warn(found)
    with scratch_directory() as scratch:
        return run_job(
            Job(
                command=tuple(map(os.fsencode, command)),
                stack=found.stack,
                scratch=scratch,
                driver=Driver(args.driver),
                chroot=args.root,
            )
        )


def _parse_words(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return layers and command; options between and after the layers go into `args`."""
    from layerfs.cli.parser import Parser

    parser = Parser(prog="layerfs run", usage=_USAGE, description=_DESCRIPTION)
    _add_options(parser)
    parser.add_argument("layers", nargs="+", metavar="LAYER")
    if "--" not in args.words:
        parser.error("give the command after `--`")
    split = args.words.index("--")
    _, rest = parser.parse_known_intermixed_args(args.words[:split], args)
    if rest:
        parser.refuse(rest)
    command = args.words[split + 1 :]
    if not command:
        parser.error("there is no command after `--`")
    return args.layers, command


def _refuse_work_alone(upper: str | None, work: str | None) -> None:
    if work and not upper:
        raise WrongUsage("--work without --upper", "give the directory that is to keep what is written as --upper")


def _stack(layers: list[str], upper: str | None, work: str | None) -> Stack:
    """Return the stack with absolute paths; the work directory is `mount`'s where none is given."""
    cwd = working_directory(*map(os.fsencode, [*layers, *filter(None, (upper, work))]))
    top = absolute(os.fsencode(upper), cwd) if upper else None
    scratch = resolve(os.fsencode(work)) if work else top and make_work(top)
    return Stack(tuple(absolute(os.fsencode(layer), cwd) for layer in layers), top, scratch)
