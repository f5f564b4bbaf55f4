"""Trees with something of everything, images of them, and what any reader sees in a tree, as values that compare.

`varied_tree` makes one on disk; `make_image` packs it with squashfs-tools or squashfs-tools-ng; `seen_in_directory`
looks at a directory (on disk, mounted, unpacked), `seen_in_image` at an image through pysquashfs.
"""

import hashlib
import os
import random
import socket
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from layerfs.pysquashfs import NO_XATTRS, Inode, SquashfsImage

BLOCK = 131072  # bytes; mksquashfs's own choice
TOOL_TIMEOUT = 120  # s
CROWD = 3000  # names in the large directory: some 80 KiB of listing, so that it has an index


class Seen(NamedTuple):
    """A file as a reader shows it. What differs for reasons of their own between filesystems is left out."""

    mode: int
    uid: int
    gid: int
    mtime: int  # s
    nlink: int  # 0 for directories
    rdev: int  # 0 for what is no device
    content: bytes  # a digest; a link's target
    xattrs: tuple[tuple[bytes, bytes], ...]
    twin: bytes  # the first path of the same inode


Tree = dict[bytes, Seen]


def varied_tree(place: Path, *, privileged: bool | None = None) -> Path:
    """Fill a new directory: every kind of file, sizes around blocks, holes, links, xattrs, odd names, times, owners.

    Devices, owners, and xattrs other than `user.` need root: they are there when `privileged`, which is whether we are.
    """
    privileged = os.geteuid() == 0 if privileged is None else privileged
    place.mkdir(parents=True)
    _files(place)
    _names(place)
    _links(place)
    _specials(place, privileged)
    _xattrs(place, privileged)
    if privileged:
        _owners(place)
    _times(place)
    return place


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, the same each time."""
    return random.Random(seed).randbytes(size)


def prose(size: int, seed: int = 0) -> bytes:
    """Bytes that compress by about half, the same each time."""
    return b" ".join(random.Random(seed).choices(_words(), k=size // 7 + 1))[:size]


@cache
def _words() -> list[bytes]:
    return [noise(3, word).hex().encode() for word in range(500)]


def _files(place: Path) -> None:
    files = place / "files"
    files.mkdir()
    for size in (0, 1, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 777):
        (files / f"prose-{size}").write_bytes(prose(size, size))
        (files / f"noise-{size}").write_bytes(noise(size, size))
    (files / "twin-of-prose").write_bytes(prose(BLOCK, BLOCK))  # mksquashfs stores it once
    (files / "zeros").write_bytes(bytes(3 * BLOCK))
    for name, length, islands in (
        ("all-hole", 5 * BLOCK + 9, ()),
        ("hole-first", 4 * BLOCK, (3 * BLOCK,)),
        ("hole-last", 6 * BLOCK + 5, (0,)),
        ("hole-between", 9 * BLOCK + 1, (0, 4 * BLOCK, 9 * BLOCK)),
    ):
        with open(files / name, "wb") as file:
            for island in islands:
                file.seek(island)
                file.write(prose(min(1000, length - island), island))
            file.truncate(length)
    for mode in (0o000, 0o644, 0o7777, 0o4755, 0o2750, 0o1777):
        (files / f"mode-{mode:o}").write_bytes(b"%o" % mode)
        (files / f"mode-{mode:o}").chmod(mode)


def _names(place: Path) -> None:
    for name in (b"n" * 255, b"new\nline", b"\xff\xfe not utf-8", b" ", b"-", b"...", "ünï".encode()):
        Path(os.fsdecode(os.fsencode(place) + b"/" + name)).write_bytes(name)
    (place / "empty").mkdir()
    (place / "a/b/c/d/e/f/g").mkdir(parents=True)
    (place / "a/b/c/d/e/f/g/leaf").write_bytes(b"leaf")
    (place / "sticky").mkdir()
    (place / "sticky").chmod(0o1777)
    crowd = place / "crowd"
    crowd.mkdir()
    for number in range(CROWD):
        member = crowd / f"member-number-{number:05}"
        if number % 10:
            os.link(crowd / f"member-number-{number // 10 * 10:05}", member)  # ten names each: less to make
        else:
            member.write_bytes(b"%d" % number)


def _links(place: Path) -> None:
    links = place / "links"
    links.mkdir()
    for name, target in (("short", "x"), ("dangling", "no/such"), ("long", "d/" * 2000), ("up", "../files/prose-1")):
        (links / name).symlink_to(target)
    os.symlink(b"\xff\n", os.fsencode(links / "odd"))
    (links / "one").write_bytes(prose(5000))
    os.link(links / "one", links / "two")
    os.link(links / "one", place / "a/three")
    os.link(links / "short", links / "short-again", follow_symlinks=False)


def _specials(place: Path, privileged: bool) -> None:
    specials = place / "specials"
    specials.mkdir()
    os.mkfifo(specials / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as listener, _inside(specials):
        listener.bind("socket")  # relative: a path has 108 bytes
    if privileged:
        for name, kind, major, minor in (
            ("null", stat.S_IFCHR, 1, 3),
            ("big", stat.S_IFCHR, 4095, 0xFFFFF),
            ("disk", stat.S_IFBLK, 259, 70000),
        ):
            os.mknod(specials / name, kind | 0o660, os.makedev(major, minor))


@contextmanager
def _inside(place: Path) -> Iterator[None]:
    before = os.open(".", os.O_PATH)
    try:
        os.chdir(place)
        yield
    finally:
        os.fchdir(before)
        os.close(before)


def _xattrs(place: Path, privileged: bool) -> None:
    marked = place / "xattrs"
    marked.mkdir()
    os.setxattr(marked, b"user.directory", b"yes")
    for number in range(4):  # one value for several, which is then stored out of line
        path = marked / f"file-{number}"
        path.write_bytes(b"")
        os.setxattr(path, b"user.shared", noise(900, 1))
        os.setxattr(path, b"user.own", b"%d" % number)
        os.setxattr(path, b"user.empty", b"")
    (marked / "large").write_bytes(prose(BLOCK + 5))
    os.setxattr(marked / "large", b"user." + b"n" * 250, b"\0\1\2")
    if privileged:
        os.setxattr(marked / "large", b"trusted.overlay.opaque", b"y")
        os.setxattr(marked / "large", b"security.test", b"label")
        os.symlink("large", marked / "link")
        os.setxattr(marked / "link", b"trusted.link", b"of a link", follow_symlinks=False)
        for name in ("fifo", "null", "disk", "socket"):
            os.setxattr(place / "specials" / name, b"trusted.kind", name.encode())


def _owners(place: Path) -> None:
    for number, path in enumerate(sorted((place / "files").iterdir())):
        mode = path.stat().st_mode
        os.chown(path, number * 1000, 4_000_000_000 - number)
        path.chmod(stat.S_IMODE(mode))  # chown takes setuid away
    os.chown(place / "links/short", 7, 8, follow_symlinks=False)
    os.chown(place / "empty", 65534, 65534)


def _times(place: Path) -> None:
    for number, path in enumerate(sorted((place / "files").iterdir())):
        moment = (0, 1, 1_000_000_000, 2**31 - 1, 2**31, 2**32 - 1)[number % 6]
        os.utime(path, (moment, moment))
    os.utime(place / "links/up", (5, 5), follow_symlinks=False)
    os.utime(place / "empty", (9, 9))


def make_image(tool: str, tree: Path, image: Path, *options: str) -> Path:
    """Pack a directory with `mksquashfs` or `gensquashfs`."""
    command: list[str | Path]
    if tool == "mksquashfs":
        command = ["mksquashfs", tree, image, "-noappend", "-quiet", "-no-progress", *options]
    else:
        command = ["gensquashfs", "--pack-dir", tree, "--keep-time", "--keep-xattr", "--quiet", *options, image]
    subprocess.run(command, check=True, capture_output=True, timeout=TOOL_TIMEOUT)
    return image


@contextmanager
def mounted(image: Path, place: Path, *, with_: str = "kernel") -> Iterator[Path]:
    """Mount an image read-only while inside: by the kernel's squashfs on a loop device (root), or by squashfuse."""
    place.mkdir()
    command: list[str | Path]
    if with_ == "kernel":
        command = ["mount", "-t", "squashfs", "-o", "loop,ro", image, place]
    else:
        command = ["squashfuse", image, place]
    subprocess.run(command, check=True, capture_output=True, timeout=TOOL_TIMEOUT)
    try:
        yield place
    finally:
        _unmount(["umount", place] if with_ == "kernel" else ["fusermount3", "-u", place])


def _unmount(command: list[Any]) -> None:
    """Try until whoever still looks at it (an indexer, udev) has gone."""
    deadline = time.monotonic() + TOOL_TIMEOUT
    while subprocess.run(command, check=False, capture_output=True, timeout=TOOL_TIMEOUT).returncode:
        assert time.monotonic() < deadline, command
        os.sched_yield()


def seen_in_directory(place: Path) -> Tree:
    """Look at all below a directory, itself included as b""."""
    found = {}
    root = os.fsencode(place)
    for path in _walk(root):
        full = os.path.join(root, path) if path else root
        status = os.lstat(full)
        found[path] = (status, _content_of(full, status.st_mode), _xattrs_of(full))
    twins = _twins((path, status.st_ino, status.st_mode) for path, (status, _, _) in found.items())
    return {
        path: _seen(status.st_mode, status.st_uid, status.st_gid, int(status.st_mtime), status.st_nlink, status.st_rdev,
                    content, xattrs, twins[path])
        for path, (status, content, xattrs) in found.items()
    }  # fmt: skip


def seen_in_image(image: SquashfsImage) -> Tree:
    """Look at all that an image holds, through walk(), read(), readlink() and xattrs()."""
    found = dict(image.walk())
    twins = _twins((path, inode.number, inode.mode) for path, inode in found.items())
    return {
        path: _seen(inode.mode, inode.uid, inode.gid, inode.mtime, inode.nlink, inode.rdev, content_in(image, inode),
                    image.xattrs(inode.ref) if inode.xattr != NO_XATTRS else {}, twins[path])
        for path, inode in found.items()
    }  # fmt: skip


def content_in(image: SquashfsImage, inode: Inode) -> bytes:
    """What Seen.content holds, of an inode."""
    if stat.S_ISLNK(inode.mode):
        return image.readlink(inode.ref)
    if not stat.S_ISREG(inode.mode):
        return b""
    data = image.read(inode.ref, 0, inode.size)
    assert len(data) == inode.size
    return digest([data])


def digest(parts: Iterable[bytes]) -> bytes:
    """Return a digest of bytes that come in parts."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(part)
    return state.digest()


def _seen(mode: int, uid: int, gid: int, mtime: int, nlink: int, rdev: int, content: bytes, xattrs: dict[bytes, bytes],
          twin: bytes) -> Seen:  # fmt: skip
    device = stat.S_ISBLK(mode) or stat.S_ISCHR(mode)
    links = 0 if stat.S_ISDIR(mode) else nlink
    return Seen(mode, uid, gid, mtime, links, rdev if device else 0, content, tuple(sorted(xattrs.items())), twin)


def _walk(root: bytes) -> Iterator[bytes]:
    yield b""
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            yield os.path.relpath(os.path.join(directory, name), root)


def _twins(inodes: Iterable[tuple[bytes, int, int]]) -> dict[bytes, bytes]:
    first: dict[int, bytes] = {}
    listed = sorted(inodes)
    return {path: path if stat.S_ISDIR(mode) else first.setdefault(number, path) for path, number, mode in listed}


def _content_of(path: bytes, mode: int) -> bytes:
    if stat.S_ISLNK(mode):
        return os.readlink(path)
    if not stat.S_ISREG(mode):
        return b""
    with open(path, "rb") as file:
        return digest(iter(lambda: file.read(1 << 20), b""))


def _xattrs_of(path: bytes) -> dict[bytes, bytes]:
    found = {}
    with suppress(OSError):  # a filesystem without xattrs
        for name in os.listxattr(path, follow_symlinks=False):
            found[os.fsencode(name)] = os.getxattr(path, name, follow_symlinks=False)
    return found
