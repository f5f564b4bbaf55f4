"""Owners, modes, xattrs and times of what is extracted, as far as they are ours to set."""

import stat
import subprocess
from pathlib import Path

from layerfs.pysquashfs import write_image
from tests.e2e.manifest import manifest
from tests.host import BIN, Person, require
from tests.images import make_image
from tests.xar.forgery import directory, file
from tests.xar.trees import root_s_tree, take_out, told, without


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
