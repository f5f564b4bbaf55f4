"""Owners, modes, xattrs and times of what is extracted, as far as they are ours to set."""

import os
import socket
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from layerfs.pysquashfs import write_image
from layerfs.pysquashfs.trail import Trail
from layerfs.xar.extract import Outcome, Wishes, extract
from layerfs.xar.package import opened
from tests.e2e.manifest import Facts, manifest
from tests.host import BIN, Person, require
from tests.images import make_image
from tests.xar.forgery import directory, file

NOISE = os.urandom(300_000)


def take_out(image: Path, target: Path, *paths: str, **wishes: bool) -> Outcome:
    with opened(os.fsencode(image)) as package:
        return extract(package.image, os.fsencode(target), Wishes(tuple(map(os.fsencode, paths)), **wishes))


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


def as_person(person: Person, image: Path, target: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return person.run([BIN / "layerfs", "xar", "extract", image, "-C", target, *words], check=False)


def test_a_person_gets_all_but_what_takes_root(person: Person, scratch: Path) -> None:
    require("root", "person")
    (scratch / "tree").mkdir()
    root_s_tree(scratch / "tree")
    image = make_image(scratch / "image", scratch / "tree")
    done = as_person(person, image, person.home / "out")
    assert (done.returncode, done.stdout) == (0, f"{person.home}/out: 16 entries\n")
    assert done.stderr.splitlines() == [
        "layerfs: warning: /big: its xattr security.capability is left out: Operation not permitted",
        "layerfs: warning: /device: is a device, which only root can make",
        "layerfs: warning: /disk: is a device, which only root can make",
        "layerfs: warning: /link: its xattr trusted.on.link is left out: Operation not permitted",
        "layerfs: warning: /suid: setuid and setgid are left out",
        "layerfs: warning: /suid: its xattr trusted.t is left out: Operation not permitted",
    ]
    ours, theirs = (manifest(str(place)) for place in (person.home / "out", scratch / "tree"))
    assert {fact["owner"] for fact in ours.values()} == {f"{person.uid}:{person.gid}"}
    assert (ours["suid"]["mode"], ours["suid"]["xattrs"]) == (oct(stat.S_IFREG | 0o755), {})
    for path in ("device", "disk", "suid"):
        ours.pop(path, None)
        theirs.pop(path)
    for fact in theirs.values():
        fact["xattrs"] = {key: value for key, value in fact["xattrs"].items() if key.startswith("user.")}
    unlike = ("owner", "nlink", "same as")
    assert without(ours, *unlike) == without(theirs, *unlike)


def test_owners_that_are_insisted_on_and_cannot_be_set_are_a_failure(person: Person, scratch: Path) -> None:
    require("root", "person")
    write_image(scratch / "image", [directory(b""), file(b"a")])
    done = as_person(person, scratch / "image", person.home / "out", "--owners")
    assert done.returncode == 1
    assert "layerfs: left out: /a: its owner 0:0 is not set: Operation not permitted\n" in done.stderr
    assert (person.home / "out/a").read_text() == "data\n"


def test_an_owner_that_cannot_be_lends_no_rights(scratch: Path) -> None:
    require("root")
    entry = file(b"suid", mode=0o6755)
    entry.uid = 0xFFFFFFFF
    write_image(scratch / "image", [directory(b""), entry])
    outcome = take_out(scratch / "image", scratch / "out")
    assert [path for path, _ in told(outcome.waived)] == [b"suid", b"suid"]
    assert stat.S_IMODE((scratch / "out/suid").stat().st_mode) == 0o755
