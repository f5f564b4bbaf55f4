"""Whose redirects and metacopies count."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.union.options import RedirectDir, UnionOptions
from tests.host import find_person
from tests.oracle.trees import Layer, Node, directory, file
from tests.union.box import Box, as_person
from tests.union.kernel import overlay, tree_of

SECRET = b"secret"
BASE: Layer = {b"private": directory(0o700), b"private/key": file(SECRET, 0o600)}


def redirected(prefix: str, uid: int = 0) -> Node:
    return directory(xattrs=((f"{prefix}redirect", b"/private"),), uid=uid, gid=uid)


def metacopy(prefix: str, uid: int = 0) -> Node:
    marks = ((f"{prefix}metacopy", b""), (f"{prefix}redirect", b"/private/key"))
    return file(b"x" * len(SECRET), xattrs=marks, uid=uid, gid=uid)


def reads(box: Box, path: bytes) -> bytes:
    try:
        return box.read(path)
    except OSError as error:
        return os.strerror(error.errno or 0).encode()


@pytest.mark.parametrize("where", ["upper", "lower"])
@pytest.mark.parametrize("prefix", ["trusted.overlay.", "user.overlay."])
@pytest.mark.parametrize(
    "options",
    [
        UnionOptions(), UnionOptions(userxattr=True), UnionOptions(metacopy=True),
        UnionOptions(redirect_dir=RedirectDir.ON),
    ],
    ids=["plain", "userxattr", "metacopy", "redirect_dir"],
)  # fmt: skip
def test_roots_mount_obeys_trusted_marks_alone_unless_asked(
    scratch: Path, require: Callable[..., None], options: UnionOptions, prefix: str, where: str
) -> None:
    """A user's own marks showed him what is below directories that only root may enter."""
    require("root", "user xattrs")
    marked: Layer = {b"r": redirected(prefix, 1001), b"m": metacopy(prefix, 1001)}
    with Box(scratch, *([] if where == "upper" else [marked]), BASE, upper=marked if where == "upper" else {}) as box:
        box.options = options
        box.again()
        counts = (prefix == "user.overlay.") == options.userxattr
        assert box.names(b"r") == ([b"key"] if counts else [])
        data = reads(box, b"m")
        assert data == (SECRET if counts and (where == "upper" or options.metacopy) else b"x" * len(SECRET))


def test_a_lower_file_without_data_is_no_file_of_zeros(scratch: Path, require: Callable[..., None]) -> None:
    """As in the kernel, which refuses it (EPERM) unless metacopy=on."""
    require("root")
    with Box(scratch, {b"m": metacopy("trusted.overlay.")}, BASE) as box:
        os.truncate(box.layer(1) + b"/m", 0)
        os.truncate(box.layer(1) + b"/m", len(SECRET))
        assert reads(box, b"m") == b"Operation not permitted"
        box.options = UnionOptions(metacopy=True)
        assert reads(box.again(), b"m") == SECRET


@pytest.mark.parametrize("prefix", ["trusted.overlay.", "user.overlay."])
def test_a_redirect_counts_as_in_the_kernel(scratch: Path, require: Callable[..., None], prefix: str) -> None:
    require("kernel overlay", "user xattrs")
    marked: Layer = {b"r": redirected(prefix)}
    with Box(scratch, marked, BASE) as box:
        tree = box.tree()
        with overlay(scratch, list(box.stack.lowers), options="redirect_dir=on,metacopy=off") as merged:
            assert tree_of(merged) == tree


@pytest.mark.parametrize(
    ("mine", "mode", "redirect_dir", "counts"),
    [
        (True, 0o755, RedirectDir.AUTO, True),
        (False, 0o755, RedirectDir.AUTO, False),
        (True, 0o777, RedirectDir.AUTO, False),
        (True, 0o755, RedirectDir.NOFOLLOW, False),
        (False, 0o755, RedirectDir.ON, True),
    ],
)
def test_a_plain_users_mount_believes_what_is_his_alone(
    scratch: Path, require: Callable[..., None], mine: bool, mode: int, redirect_dir: RedirectDir, counts: bool
) -> None:
    require("root", "person", "user xattrs")
    person = find_person(scratch / "home")
    person.owns(scratch)
    with as_person(person.uid, person.gid):
        layers: list[Layer] = [
            {b"r": directory(xattrs=(("user.overlay.redirect", b"/base"),))},
            {b"base/f": file(b"1")},
        ]
        with Box(scratch, *layers, owner=(person.uid, person.gid)) as box:
            pass
    os.chmod(box.layer(1) + b"/r", mode)
    if not mine:
        os.chown(box.layer(1) + b"/r", person.uid + 1, person.gid)
    box.options = UnionOptions(redirect_dir=redirect_dir)
    with as_person(person.uid, person.gid):
        box.union = box._open()
        with box:
            assert box.names(b"r") == ([b"f"] if counts else [])
