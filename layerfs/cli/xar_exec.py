"""`layerfs xar exec` and `xarexec_fuse`: run the program in a XAR from a mount that all its callers share.

The program gets what xarexec_fuse gives it: its path in the mount as argument 0, the XAR as it was named as argument 1,
then the caller's arguments; XARFUSE_NEW_MOUNT=1 in its environment when the mount was made for it. It takes our place
by exec, so its signals, its status and its terminal are its own. It inherits a descriptor of the mount's root, as do
its children: the mount stays as long as one of them has it, or anything else of the mount, open.
"""

import errno
import os
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn

from layerfs.errors import InvalidArgument, NotReady
from layerfs.mounts.standby_start import start_standby
from layerfs.sys.reach import see_that_they_answer

if TYPE_CHECKING:
    import argparse

    from layerfs.xarexec.share import Shared

    Arguments = argparse.Namespace | SimpleNamespace

USAGE = """usage: xarexec_fuse [-m | -n] FILE [ARGUMENT...]

    run the program that FILE names as its XAREXEC_TARGET, from a mount of it and of what it depends on
    -m          only mount, and print where
    -n          only print where it would be mounted
    -h, --help  print this
"""
DESCRIPTION = """\
Mount FILE and what it depends on, where `layerfs xar mount` does, run its XAREXEC_TARGET with FILE and ARGUMENTs, and
return its exit status (127 when it is not found, 126 when it cannot be run)."""
SHELL = (b"/bin/sh", b"-e")
FIRST = 10  # the lowest number of the inherited descriptor: shells let scripts use 0 to 9


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line of `layerfs xar`."""
    import argparse

    from layerfs.cli.xar_mount import add_timeout

    parser = subparsers.add_parser(
        "exec",
        help="run the program in a XAR",
        usage="%(prog)s [--timeout SECONDS] FILE [--] [ARGUMENT...]",
        description=DESCRIPTION,
    )
    add_timeout(parser)
    parser.add_argument("file", metavar="FILE", help="the XAR")
    # Everything behind FILE is the program's, also what looks like an option of ours.
    rest = parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT", help="the program's arguments"
    )
    rest.required = False  # or a usage error would ask for it


def quick(words: Sequence[str]) -> SimpleNamespace | None:
    """Return what argparse would make of a well-formed command line; None if it must look at it itself."""
    timeout = None
    if words[:1] == ["--timeout"] and len(words) > 1:
        timeout, words = words[1], words[2:]
    if not words or words[0].startswith("-") or not _is_time(timeout):
        return None
    return SimpleNamespace(part="exec", file=words[0], arguments=list(words[1:]), timeout=timeout)


def _is_time(word: str | None) -> bool:
    from layerfs.cli.xar_mount import seconds

    try:
        return word is None or seconds(word) >= 0
    except InvalidArgument:
        return False


def run(args: "Arguments") -> int:
    """Become the program by exec; returns an exit status only if it could not be run."""
    from layerfs.cli.xar_mount import seconds

    words = args.arguments[1:] if args.arguments[:1] == ["--"] else args.arguments
    return execute(args.file, words, seconds(args.timeout))


def interpret(words: list[str]) -> int:
    """Be `xarexec_fuse`: options stand before FILE, all that comes after is the program's."""
    only_mount = only_print = False
    for number, word in enumerate(words):
        if word in ("-h", "--help"):
            sys.stdout.write(USAGE)
            return 0
        if not word.startswith("-"):
            return _interpret(word, words[number + 1 :], only_mount, only_print)
        if word not in ("-m", "-n"):
            break
        only_mount, only_print = only_mount or word == "-m", only_print or word == "-n"
    sys.stderr.write(USAGE)
    return 2


def _interpret(file: str, arguments: list[str], only_mount: bool, only_print: bool) -> int:
    from layerfs.cli import xar_mount

    see_that_they_answer([os.fsencode(file)])
    if only_print:
        return xar_mount.print_mountpoint(file)
    if only_mount:
        return xar_mount.print_mount(file, xar_mount.seconds(None))
    return execute(file, arguments, xar_mount.seconds(None))


def execute(file: str, arguments: list[str], timeout: float) -> int:
    """Mount a XAR and become its target."""
    from layerfs.xarexec.share import mount

    shared = mount(os.fsencode(file), timeout, to_run=True)
    if shared.cold:
        from layerfs.sys.limits import undo_raise

        undo_raise()  # it is the program's now
        start_standby(apart=True)
    target = os.path.join(shared.path, shared.target)
    return _become(shared, target, tuple(map(os.fsencode, (file, *arguments))))


def _become(shared: "Shared", target: bytes, arguments: tuple[bytes, ...]) -> int:
    """Run the target. What the kernel cannot run the shell does, as in the reference, which knows only scripts."""
    from layerfs.sys import child
    from layerfs.sys.terminal import one_line

    environment = dict(os.environb) | ({b"XARFUSE_NEW_MOUNT": b"1"} if shared.fresh else {})
    _pass_on(shared.root)
    try:
        try:
            _exec((target, *arguments), environment)
        except OSError as error:
            if error.errno not in (errno.ENOEXEC, errno.EACCES) or not os.path.isfile(target):
                raise
            _exec((*SHELL, target, *arguments), environment)
    except OSError as error:
        _see_served(shared)
        print(f"layerfs: cannot run {one_line(os.fsdecode(target))}: {child.reason(error)}", file=sys.stderr)
        return child.status_of(error)


def _see_served(shared: "Shared") -> None:
    """Raise NotReady if the mount's server has ended: that, not the target, is why it cannot be run."""
    try:
        os.fstatvfs(shared.root)
    except OSError as error:
        text = f"the server of the mount {os.fsdecode(shared.path)} ended as it started: {error.strerror}"
        raise NotReady(text, "a server needs descriptors, processes and memory: see ulimit -a") from None


def _exec(command: tuple[bytes, ...], environment: dict[bytes, bytes]) -> NoReturn:
    import signal

    from layerfs.sys import child

    child.execute(command, environment, signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def _pass_on(fd: int) -> None:
    """Make a descriptor inheritable, under a number that scripts do not use."""
    import fcntl

    try:
        fcntl.fcntl(fd, fcntl.F_DUPFD, FIRST)
    except OSError:  # so few descriptors are allowed that it must be a low one
        os.set_inheritable(fd, True)
