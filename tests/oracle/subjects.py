"""Who serves a mount. Every subject mounts a stack at a directory and can always be taken away again."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import PATIENCE

LAYERFS = Path(sys.executable).with_name("layerfs")
MOUNT_TIMEOUT = 30  # s
_MS_REMOUNT, _MNT_DETACH = 32, 2
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Place:
    """Where one stack lies: lowers top first; no upper is a read-only mount."""

    lowers: tuple[bytes, ...]
    target: bytes
    upper: bytes | None = None
    work: bytes | None = None

    def option(self) -> str:
        parts = ["lowerdir=" + ":".join(os.fsdecode(lower) for lower in self.lowers)]
        if self.upper is not None and self.work is not None:
            parts += ["upperdir=" + os.fsdecode(self.upper), "workdir=" + os.fsdecode(self.work)]
        return ",".join(parts)


@dataclass(frozen=True)
class Subject:
    """A program that serves a stack; `options` as after -o, `environment` beside its own."""

    name: str
    options: str = ""
    environment: tuple[tuple[str, str], ...] = ()

    def command(self, place: Place) -> Sequence[str]:
        options = ",".join(part for part in (place.option(), self.options) if part)
        target = os.fsdecode(place.target)
        match self.name:
            case "kernel":
                return ["mount", "-i", "-t", "overlay", "overlay", "-o", options, target]
            case "fuse-overlayfs":
                return ["/usr/bin/fuse-overlayfs", "-o", options, target]
            case "layerfs":
                return [str(LAYERFS), "mount", "--driver", "fuse", "-o", options, target]
        raise ValueError(self.name)

    def mount(self, place: Place) -> None:
        """Mount; the program's own words are in the error."""
        for directory in (place.target, place.upper, place.work):
            if directory is not None:
                os.makedirs(directory, exist_ok=True)
        if self.name == "union":  # plain.py opens it, in the process that performs the operations
            return
        done = subprocess.run(
            self.command(place), stdin=subprocess.DEVNULL, capture_output=True, timeout=MOUNT_TIMEOUT, check=False,
            env=os.environ | dict(self.environment),
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(f"{self.name} does not mount: {done.stderr.decode()} {done.stdout.decode()}")

    @contextmanager
    def mounted(self, place: Place) -> Iterator[bytes]:
        """Mount for the length of a `with`; a server that hangs is aborted."""
        self.mount(place)
        try:
            yield place.target
        finally:
            release(place.target)


def mount_device(target: bytes) -> tuple[int, str] | None:
    """Minor device number and type of what is mounted at `target`, without touching it; None if nothing is."""
    found = None
    with open("/proc/self/mountinfo", "rb") as source:
        for line in source:
            fields = line.split()
            if fields[4].decode("unicode_escape").encode("latin-1") == target:
                found = int(fields[2].split(b":")[1]), fields[fields.index(b"-") + 1].decode()
    return found


def release(target: bytes) -> None:
    """Unmount, by force if nothing answers."""
    device = mount_device(target)
    if device is None:
        return
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(["umount", os.fsdecode(target)], capture_output=True, timeout=PATIENCE, check=False)
        if done.returncode == 0:
            return
    abort(target)
    while mount_device(target) is not None:
        if _libc.umount2(target, _MNT_DETACH):
            raise AssertionError(f"cannot unmount {target!r}: {os.strerror(ctypes.get_errno())}")


def abort(target: bytes) -> None:
    """Cut a FUSE mount off from its server, so that whoever waits for an answer gets ENOTCONN."""
    device = mount_device(target)
    if device is None or not device[1].startswith("fuse"):
        return
    connections = "/sys/fs/fuse/connections"
    if not os.path.ismount(connections):
        subprocess.run(["mount", "-t", "fusectl", "none", connections], capture_output=True, check=False)
    with suppress(OSError), open(f"{connections}/{device[0]}/abort", "w") as out:
        out.write("1")


def forget(target: bytes) -> None:
    """Make the kernel forget every name of this mount: a remount shrinks its dentries, and only its own."""
    if _libc.mount(None, target, None, _MS_REMOUNT, None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
