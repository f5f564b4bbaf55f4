"""Numbers that an upper says it kept: whatever they say, no object answers for another, and only st_ino may suffer."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from layerfs.union.inodes import Node
from layerfs.union.numbers import FRESH, HASHED
from tests.host import find_person
from tests.oracle.trees import WHITEOUT, Layer, directory, file, hardlink, symlink
from tests.union.box import Box, as_person

KEPT = "trusted.overlay.layerfs.ino"
LOWER: Layer = {
    b"low": file(b"low"), b"twin": file(b"twins"), b"twin2": hardlink(b"twin"), b"dir/x": file(b"x"),
    b"link": symlink(b"to"),
}  # fmt: skip
UPPER: Layer = {
    b"good": file(b"good"), b"zz": file(b"forged"), b"evil/low": file(b"evil"), b"evil/x": file(b"evil x"),
    b"fine": directory(), b"fine/x": file(b"fine x"),
}  # fmt: skip
TREE = {
    b"low": b"low", b"twin": b"twins", b"twin2": b"twins", b"dir": "dir", b"dir/x": b"x", b"link": ("link", b"to"),
    b"good": b"good", b"zz": b"forged", b"evil": "dir", b"evil/low": b"evil", b"evil/x": b"evil x", b"fine": "dir",
    b"fine/x": b"fine x",
}  # fmt: skip
VICTIMS = [b"", b"low", b"twin", b"dir", b"dir/x", b"link", b"good", b"fine", b"fine/x"]


def forge(box: Box, name: bytes, number: int) -> None:
    path = os.path.join(box.upper, name)
    os.setxattr(path, KEPT, b"%d:%d" % (os.lstat(path).st_ino, number))


@pytest.mark.parametrize("forger", [b"zz", b"evil", b"evil/x"])
@pytest.mark.parametrize("victim", VICTIMS)
def test_forged_number_exchanges_nothing(
    scratch: Path, require: Callable[..., None], victim: bytes, forger: bytes
) -> None:
    """A file answered for another, and a directory for the root."""
    require("root")
    with Box(scratch, LOWER, upper=UPPER) as box:
        number = box.ino(victim)
        forge(box, forger, number)
        for first, second in itertools.permutations((victim, forger)):
            box.again()
            with box.node(first) as one, box.node(second) as other:
                assert one.ino != other.ino
                check(box)
            with box.node(first) as one:  # a second look finds the same node, as long as it is remembered
                with box.node(first) as again:
                    assert again is one
            assert box.is_clean()
            assert box.union._ov.table._owned == {}


def check(box: Box) -> None:
    """Everything is what it is, and has a number of its own, while all of it is remembered."""
    assert box.tree() == TREE
    with ExitStack() as held:
        nodes: dict[bytes, Node] = {path: held.enter_context(box.node(path)) for path in (*TREE, b"")}
        assert len({node.ino for node in nodes.values()}) == len(nodes) - 1  # the two names of `twin`
        assert box.tree() == TREE


@pytest.mark.parametrize(
    "number",
    [b"0", b"1", b"-5", b"%d" % FRESH, b"%d" % (1 << 63), b"9" * 30, b"1" * 4000, b"", b"x", b"2:3", b" 7", b"7\0"],
)
def test_a_number_that_can_be_none_is_none(scratch: Path, require: Callable[..., None], number: bytes) -> None:
    """One of 30 digits made the whole directory an error."""
    require("root")
    with Box(scratch, LOWER, upper=UPPER) as box:
        expected = box.ino(b"zz")
        path = os.path.join(box.upper, b"zz")
        os.setxattr(path, KEPT, b"%d:%s" % (os.lstat(path).st_ino, number))
        assert box.again().ino(b"zz") == expected
        assert box.tree() == TREE


def test_a_number_that_only_this_mount_gave_is_not_kept(scratch: Path, require: Callable[..., None]) -> None:
    require("root")
    with Box(scratch, LOWER, upper=UPPER) as box:
        low = box.ino(b"low")
        forge(box, b"zz", low)
        forge(box, b"good", HASHED | 5)
        box.again()
        with box.node(b"zz"), box.node(b"low") as node:
            assert node.ino != low
            box.write(b"low", b"L")
        for name in (b"low", b"zz", b"good"):
            path = os.path.join(box.upper, name)
            if KEPT in os.listxattr(path):
                assert int(os.getxattr(path, KEPT).split(b":")[1]) < FRESH
        assert box.again().read(b"low") == b"Low"


def test_numbers_beside_symlinks_are_no_identity_either(scratch: Path, require: Callable[..., None]) -> None:
    """Without root they are kept in an xattr of the directory."""
    require("root", "person", "user xattrs")
    person = find_person(scratch / "home")
    person.owns(scratch)
    owner = (person.uid, person.gid)
    with as_person(*owner):
        upper: Layer = {b"s": symlink(b"target")}
        with Box(scratch, LOWER, upper=upper, prefix="user.overlay.", owner=owner) as box:
            number = box.ino(b"low")
            own = os.lstat(os.path.join(box.upper, b"s")).st_ino
            os.setxattr(box.upper, "user.overlay.layerfs.inos", b"%d:%d %d:%s" % (own, number, own, b"9" * 99))
            box.again()
            for first, second in ((b"s", b"low"), (b"low", b"s")):
                with box.node(first) as one, box.node(second) as other:
                    assert one is not other
                    assert box.read(b"low") == b"low"
                    with box.node(b"s") as node:
                        assert box.union.readlink(node.ino) == b"target"


@pytest.fixture(params=[True, False], ids=["redirect first", "target first"])
def order(request: pytest.FixtureRequest) -> Iterator[bool]:
    yield request.param


def test_a_redirect_to_what_is_still_visible_makes_two_directories(
    scratch: Path, require: Callable[..., None], order: bool
) -> None:
    """They had one number and one node: a file that was made in one appeared in the other."""
    require("root")
    upper: Layer = {b"r": directory(xattrs=(("trusted.overlay.redirect", b"/dir"),)), b"r/own": file(b"own")}
    with Box(scratch, LOWER, upper=upper) as box:
        paths = (b"r", b"dir") if order else (b"dir", b"r")
        with box.node(paths[0]) as one, box.node(paths[1]) as other:
            assert one.ino != other.ino
            assert box.names(b"r") == [b"own", b"x"]
            assert box.names(b"dir") == [b"x"]
            box.create(b"dir/new", b"1")
            box.write(b"r/x", b"R")
            assert box.names(b"r") == [b"own", b"x"]
            assert (box.read(b"dir/x"), box.read(b"r/x")) == (b"x", b"R")
        assert (box.again().read(b"dir/x"), box.read(b"r/x")) == (b"x", b"R")
        assert box.is_clean()


def test_two_redirects_to_one_directory_are_two_directories(scratch: Path, require: Callable[..., None]) -> None:
    require("root")
    mark = (("trusted.overlay.redirect", b"/dir"),)
    upper: Layer = {b"a": directory(xattrs=mark), b"b": directory(xattrs=mark), b"dir": WHITEOUT}
    with Box(scratch, LOWER, upper=upper) as box, box.node(b"a") as one, box.node(b"b") as other:
        assert one.ino != other.ino
        box.unlink(b"a/x")
        assert (box.names(b"a"), box.names(b"b")) == ([], [b"x"])
