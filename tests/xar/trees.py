"""Trees with all that an image can hold, and what is taken out of their images."""

import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

from layerfs.pysquashfs.trail import Trail
from layerfs.xar.extract import Extraction, ExtractOptions, extract
from layerfs.xar.package import opened
from tests.e2e.manifest import Facts

NOISE = os.urandom(300_000)


def take_out(image: Path, target: Path, *paths: str, **options: bool) -> Extraction:
    with opened(os.fsencode(image)) as package:
        return extract(package.image, os.fsencode(target), ExtractOptions(tuple(map(os.fsencode, paths)), **options))


def plain_tree(root: Path) -> None:
    """What everybody may make and extract."""
    (root / "dir/empty").mkdir(parents=True)
    (root / "dir/small").write_text("small\n")
    (root / "big").write_bytes(NOISE)
    (root / "nothing").touch()
    os.link(root / "big", root / "dir/other name")
    (root / "link").symlink_to("dir/small")
    (root / "dangling").symlink_to("/no/where\xff")
    os.link(root / "dangling", root / "dangling too", follow_symlinks=False)
    os.mkfifo(root / "fifo", 0o640)
    with (root / "holes").open("wb") as sparse:
        sparse.truncate(3 << 20)
        sparse.seek(1 << 20)
        sparse.write(b"island")
    (root / "gr\udcf6sse \n\x07").write_text("strange name")
    (root / "closed").mkdir()
    (root / "closed/in").write_text("x")
    os.setxattr(root / "big", "user.colour", b"green")
    os.setxattr(root / "dir", "user.colour", b"blue")
    for path, mode in {
        "dir/small": 0o640,
        "nothing": 0o444,
        "dir": 0o1755,
        "closed": 0o500,
        "dir/empty": 0o000,
    }.items():
        (root / path).chmod(mode)


def date(root: Path) -> None:
    """Give everything a time of its own, in whole seconds as squashfs has them."""
    for number, path in enumerate([*sorted(root.rglob("*")), root]):
        os.utime(path, (0, 1_000_000_000 + number), follow_symlinks=False)


def root_s_tree(root: Path) -> None:
    """What only root may make: nodes, owners, privileges."""
    plain_tree(root)
    os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(root / "disk", stat.S_IFBLK | 0o660, os.makedev(300, 70000))
    os.chown(root / "dir/small", 1000, 2000)
    os.chown(root / "link", 3, 4, follow_symlinks=False)
    (root / "suid").write_text("x")
    os.chown(root / "suid", 7, 8)
    (root / "suid").chmod(0o6755)
    os.setxattr(root / "suid", "trusted.t", b"1")
    os.setxattr(root / "link", "trusted.on.link", b"2", follow_symlinks=False)
    os.setxattr(root / "device", "trusted.on.device", b"3")
    capability = bytes.fromhex("0000000200040000000000000000000000000000")  # cap_net_bind_service+p
    os.setxattr(root / "big", "security.capability", capability)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
    date(root)


def without(facts: dict[str, Facts], *unlike: str) -> dict[str, Facts]:
    return {path: {key: value for key, value in fact.items() if key not in unlike} for path, fact in facts.items()}


def told(notes: Sequence[tuple[Trail, str]]) -> list[tuple[bytes, str]]:
    """Notes of an outcome with their paths."""
    return [(trail.path, why) for trail, why in notes]
