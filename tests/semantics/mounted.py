"""One stack on disk and its mount: what a test of the semantics works with."""

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.host import BIN
from tests.oracle.subjects import mount_device
from tests.oracle.trees import Layer, Marks, Tree, build, read_tree
from tests.waiting import PATIENCE

_libc = ctypes.CDLL(None, use_errno=True)


class Mounted:
    """A stack below one directory; `mount` it first, then `mounted / name` is a path in it."""

    def __init__(self, base: Path, *, natively: bool = False) -> None:
        self.natively = natively
        self.base = os.fsencode(base)
        self.root, self.upper, self.work = self.base + b"/m", self.base + b"/u", self.base + b"/w"
        self.log = self.base + b"/log"
        self.lowers: list[bytes] = []
        self.with_upper, self.options = True, ""

    @property
    def is_root(self) -> bool:
        return os.getuid() == 0

    def __truediv__(self, name: bytes) -> bytes:
        return os.path.join(self.root, name)

    def build(self, *layers: Layer, marks: Marks = Marks.KERNEL) -> None:
        """Make the lowers, top first."""
        prefix = "trusted.overlay." if self.is_root else "user.overlay."
        for index, layer in enumerate(layers):
            self.lowers.append(self.base + b"/l%d" % index)
            build(self.lowers[-1], layer, marks, prefix)

    def mount(self, *layers: Layer, upper: bool = True, options: str = "") -> None:
        """Build the layers, if any are given, and mount."""
        self.build(*layers)
        self.with_upper, self.options = upper, options
        for directory in (self.root, *((self.upper, self.work) if upper else ())):
            os.makedirs(directory, exist_ok=True)
        done = self.attempt(self.command())
        assert done.returncode == 0, done.stderr

    def command(self) -> list[str]:
        """The command line that mounts the stack."""
        words = ["mount", "--driver", "fuse", "--log", os.fsdecode(self.log), *map(os.fsdecode, self.lowers)]
        words.append(os.fsdecode(self.root))
        if self.with_upper:
            words += ["--upper", os.fsdecode(self.upper), "--work", os.fsdecode(self.work)]
        defaults = ",".join(self._defaults())
        options = ",".join(part for part in (defaults, self.options) if part)
        return [*words, "-o", options] if options else words

    def _defaults(self) -> Iterator[str]:
        if self.is_root:
            yield "dev,suid"
            if not self.natively:
                yield "nolane"

    def attempt(self, words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        """Run `layerfs` to the end, whatever comes out."""
        command = [str(BIN / "layerfs"), *words]
        lane = {"LAYERFS_LANE": "1"} if self.natively else {}  # from the first request on
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
            env=os.environ | lane,
        )  # fmt: skip

    def unmount(self) -> None:
        """Unmount, and see that no bug of the server was caught by its guard."""
        done = self.attempt(["umount", os.fsdecode(self.root)])
        assert done.returncode == 0, done.stderr
        assert mount_device(self.root) is None
        self.check_log()

    def said(self) -> str:
        """What the server has said, and whether it still runs: what tells why a test failed."""
        with suppress(OSError), open(self.log, errors="replace") as source:
            return f"servers {servers(self)}, log: {source.read()[-4000:]}"
        return f"servers {servers(self)}, no log"

    def check_log(self) -> None:
        if os.path.exists(self.log):
            with open(self.log, errors="replace") as source:
                text = source.read()
            assert "Traceback" not in text, text

    def remount(self, options: str | None = None) -> None:
        """Unmount and mount the same stack again."""
        self.unmount()
        self.mount(upper=self.with_upper, options=self.options if options is None else options)

    def forget(self) -> None:
        """Make the kernel forget every name of the mount (a remount shrinks its dentries); root only."""
        if _libc.mount(None, self.root, None, 32, None):
            raise OSError(ctypes.get_errno(), "remount")

    def tree(self) -> Tree:
        """Everything in the mount."""
        return read_tree(self.root)

    def names(self, path: bytes = b"") -> list[bytes]:
        return sorted(os.listdir(self / path))


root_only = pytest.mark.parametrize("union", ["root", "lane"], indirect=True)


def write(path: bytes, data: bytes) -> None:
    with open(path, "wb") as out:
        out.write(data)


def append(path: bytes, data: bytes) -> None:
    with open(path, "ab") as out:
        out.write(data)


def read(path: bytes) -> bytes:
    with open(path, "rb") as source:
        return source.read()


@contextmanager
def opened(path: bytes, flags: int, mode: int = 0o666) -> Iterator[int]:
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def acting_as(uid: int, gid: int | None = None, groups: Sequence[int] = ()) -> Iterator[None]:
    """Be somebody without privileges for a while (the test runs in a child process of its own)."""
    os.setgroups(list(groups))
    os.setegid(uid if gid is None else gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups([])


def error_of(action: Callable[..., object], *arguments: object, **named: object) -> int:
    """The errno that an action fails with; 0 if it does not."""
    try:
        action(*arguments, **named)
    except OSError as error:
        return error.errno or -1
    return 0


def cpu_time(union: Mounted) -> float:
    """How long the servers of a mount have computed [s]: what work costs them, however busy the host is."""
    ticks = 0
    for pid in servers(union):
        with open(f"/proc/{pid}/stat", "rb") as source:
            ticks += sum(map(int, source.read().rsplit(b")", 1)[1].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def servers(union: Mounted) -> list[int]:
    """The processes that serve a mount, by their command lines."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as source:
                words = source.read().split(b"\0")
            with open(f"/proc/{pid}/stat", "rb") as source:
                state = source.read().rsplit(b")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if union.root in words and state != b"Z":
            found.append(int(pid))
    return found
