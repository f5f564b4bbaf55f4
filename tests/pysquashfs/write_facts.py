"""What a tree holds, as one value: as entries say, or as kernel, squashfuse, unsquashfs and our own reader read it."""

import errno
import hashlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from layerfs.pysquashfs import FileSpec, SquashfsImage
from tests.waiting import PATIENCE

FILE, DIRECTORY, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777
Xattrs = tuple[tuple[bytes, bytes], ...]


class Facts(NamedTuple):
    """One name. content: a digest of a file's, or a symlink's target. first: the first name of the same inode."""

    mode: int
    owner: tuple[int, int]
    mtime: int
    links: int
    size: int
    rdev: int
    content: bytes
    xattrs: Xattrs
    first: bytes


def run(*command: str | Path) -> None:
    """Run a program to its end; what it says is the failure."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@contextmanager
def mounted(image: Path, offset: int = 0) -> Iterator[Path]:
    """Mount an image by the kernel, beside it."""
    place = image.with_suffix(".mount")
    place.mkdir()
    run("mount", "-t", "squashfs", "-o", f"ro,loop,offset={offset}", image, place)
    try:
        yield place
    finally:
        run("umount", place)
        place.rmdir()


def by_kernel(image: Path) -> dict[bytes, Facts]:
    with mounted(image) as place:
        return facts_of(place)


def by_squashfuse(image: Path) -> dict[bytes, Facts]:
    """squashfuse (0.1.105) takes trusted for security and the reverse, in mksquashfs's images too; put right here.

    Nor does it find an attribute without value, or two of the same name in two spaces: it is shown none.
    """
    place = image.with_suffix(".fuse")
    place.mkdir()
    run("squashfuse_ll", image, place)  # the other one numbers names, not inodes
    try:
        found = facts_of(place)
    finally:
        run("umount", place)
    right = {b"trusted": b"security", b"security": b"trusted"}
    return {path: facts._replace(xattrs=_renamed(facts.xattrs, right)) for path, facts in found.items()}


def _renamed(xattrs: Xattrs, right: dict[bytes, bytes]) -> Xattrs:
    parts = [(name.partition(b"."), value) for name, value in xattrs]
    return tuple(sorted((right.get(space, space) + b"." + rest, value) for (space, _, rest), value in parts))


def by_unsquashfs(image: Path) -> dict[bytes, Facts]:
    place = image.with_suffix(".out")
    run("unsquashfs", "-quiet", "-no-progress", "-strict-errors", "-dest", place, image)
    return facts_of(place)


def by_us(image: Path, offset: int = 0) -> dict[bytes, Facts]:
    with SquashfsImage(image, offset=offset) as opened:
        return facts_in(opened)


READERS: dict[str, Callable[[Path], dict[bytes, Facts]]] = {
    "kernel": by_kernel,
    "squashfuse_ll": by_squashfuse,
    "unsquashfs": by_unsquashfs,
    "pysquashfs": by_us,
}


def facts_of(place: Path) -> dict[bytes, Facts]:
    """What lies in a directory; the directory itself is b""."""
    top, firsts, found = os.fsencode(place), dict[int, bytes](), dict[bytes, Facts]()
    for path in _paths(top):
        name = os.path.join(top, path) if path else top
        status = os.lstat(name)
        first = firsts.setdefault(status.st_ino, path)
        content, size = b"", 0
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(name)
        elif stat.S_ISREG(status.st_mode):
            with open(name, "rb") as file:
                content, size = hashlib.file_digest(file, "sha256").digest(), status.st_size
        xattrs = sorted((key, os.getxattr(name, key, follow_symlinks=False)) for key in _xattr_names(name))
        owner = (status.st_uid, status.st_gid)
        rdev = status.st_rdev if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else 0
        mtime, links = int(status.st_mtime), status.st_nlink
        found[path] = Facts(status.st_mode, owner, mtime, links, size, rdev, content, tuple(xattrs), first)
    return found


def _paths(top: bytes) -> list[bytes]:
    found = [b""]
    for directory, inner, files in os.walk(top):
        above = os.path.relpath(directory, top)
        found += [name if above == b"." else os.path.join(above, name) for name in inner + files]
    return sorted(found)


def _xattr_names(name: bytes) -> list[bytes]:
    try:
        return [os.fsencode(key) for key in os.listxattr(name, follow_symlinks=False)]
    except OSError as error:
        if error.errno != errno.ENOTSUP:  # the kernel's answer where an image has none at all
            raise
        return []


def facts_in(image: SquashfsImage) -> dict[bytes, Facts]:
    """What our own reader finds in an image."""
    firsts, found = dict[int, bytes](), dict[bytes, Facts]()
    for path, inode in sorted(image.walk()):
        first = firsts.setdefault(inode.number, path)
        content, size = b"", 0
        if stat.S_ISLNK(inode.mode):
            content = image.readlink(inode.ref)
        elif stat.S_ISREG(inode.mode):
            content, size = hashlib.sha256(image.read(inode.ref, 0, inode.size)).digest(), inode.size
        xattrs = tuple(sorted(image.xattrs(inode.ref).items()))
        rdev = inode.rdev if stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode) else 0
        owner = (inode.uid, inode.gid)
        found[path] = Facts(inode.mode, owner, inode.mtime, inode.nlink, size, rdev, content, xattrs, first)
    return found


def facts_wanted(entries: Iterable[FileSpec]) -> dict[bytes, Facts]:
    """What entries with bytes as data should become."""
    by_path = {entry.path: entry for entry in entries}
    made = {path: by_path[entry.link] if entry.link is not None else entry for path, entry in by_path.items()}
    found = {}
    for path, entry in made.items():
        names = sorted(other for other, target in made.items() if target is entry)
        links = len(names)
        if stat.S_ISDIR(entry.mode):
            inner = [other for other, target in made.items() if stat.S_ISDIR(target.mode) and other]
            links = 2 + sum(other.rpartition(b"/")[0] == path for other in inner)
        content, size = entry.target, 0
        if stat.S_ISREG(entry.mode):
            assert isinstance(entry.data, bytes)
            content, size = hashlib.sha256(entry.data).digest(), len(entry.data)
        xattrs = tuple(sorted(entry.xattrs.items()))
        owner = (entry.uid, entry.gid)
        found[path] = Facts(entry.mode, owner, entry.mtime, links, size, entry.rdev, content, xattrs, names[0])
    return found
