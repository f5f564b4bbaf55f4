"""Paths on filesystems that may never answer: whoever names one hears of it within seconds, instead of hanging.

The way to a path is walked without a question to any filesystem that has a server (FUSE, NFS and the like). Only where
it leads into one, a child asks (`layerfs.sys.ask`). That one answers now is no promise for later.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final

from layerfs.errors import NotReady
from layerfs.sys.mountinfo import MountInfo, lines_of, parse_mountinfo, target_of
from layerfs.sys.terminal import shell_word

TIMEOUT: Final = 2.0  # s; guessed
# Types, by how their names begin, whose answers come from a server.
SERVED: Final = (b"fuse", b"nfs", b"cifs", b"smb3", b"9p", b"ceph", b"afs", b"autofs", b"coda", b"lustre", b"orangefs")
_LINKS: Final = 40  # MAXSYMLINKS of the kernel
_HEAD: Final = 4096  # bytes


def see_that_they_answer(paths: Iterable[bytes]) -> None:
    """Raise NotReady if a path leads to a filesystem that answers nothing within `TIMEOUT`.

    Whatever else is wrong with a path is told by whoever uses it. Only in a process of one thread.
    """
    served = {target_of(line): line for line in _served()}
    met = [(path, info) for path in _absolute(paths) if (info := _first_served(path, served))] if served else []
    if not met:
        return
    from layerfs.sys.ask import ask

    answers = ask([partial(_look, path) for path, _ in met], TIMEOUT)
    for (path, info), answer in zip(met, answers, strict=True):
        if answer is None:
            raise _silent(path, info)


def _absolute(paths: Iterable[bytes]) -> Iterator[bytes]:
    """Yield absolute paths, since the asking child is in another directory; none if the working directory is gone."""
    for path in paths:
        if path.startswith(b"/"):
            yield path
        else:
            with suppress(FileNotFoundError):
                yield os.path.join(os.getcwdb(), path)


def _served() -> Iterator[bytes]:
    """Yield the lines of the mounts whose answers come from a server."""
    with suppress(FileNotFoundError):  # no /proc: others say so
        yield from lines_of(SERVED)


def _silent(path: bytes, info: MountInfo) -> NotReady:
    where = os.fsdecode(info.target)
    way = "is" if path == info.target else "is on"
    place = "" if path == info.target else f" {where},"
    ours = "layerfs umount" if info.type == b"fuse.layerfs" else "umount"
    return NotReady(
        f"{os.fsdecode(path)} {way}{place} a filesystem ({os.fsdecode(info.type)}) that does not answer",
        f"see to its server, or {ours} -l {shell_word(info.target)}, or name another path",
    )


def _first_served(path: bytes, served: dict[bytes, bytes]) -> MountInfo | None:
    """Return the first mount with a server that the way to a path enters; None if it enters none."""
    todo, place, links = _steps(path), b"/", 0
    found = served.get(place)
    while todo and found is None:
        name = todo.pop()
        if name == b"..":
            place = os.path.dirname(place)
            continue
        step = os.path.join(place, name)
        found = served.get(step)
        if found is None:
            target = _link(step)
            links += target is not None
            if links > _LINKS:
                return None
            if target is None:
                place = step
            else:
                place = b"/" if target.startswith(b"/") else place
                todo += _steps(target)
    return None if found is None else parse_mountinfo(found)


def _steps(path: bytes) -> list[bytes]:
    """Return the names of a path, the last one first."""
    return [name for name in reversed(path.split(b"/")) if name not in (b"", b".")]


def _link(step: bytes) -> bytes | None:
    """Return where a symlink leads; None for anything else."""
    try:
        return os.readlink(step)
    except OSError:
        return None


def _look(path: bytes) -> None:
    """Do what a mount does first with a path: stat, statvfs and one name of a directory, or some bytes of a file."""
    kind = os.stat(path).st_mode
    if stat.S_ISDIR(kind):
        os.statvfs(path)
        with os.scandir(path) as names:
            next(names, None)
    elif stat.S_ISREG(kind):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.read(fd, _HEAD)
