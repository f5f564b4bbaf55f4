"""What is refused, each with its sentence; and that a refusal leaves nothing open or locked."""

import fcntl
import os
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from layerfs.errors import InvalidArgument, LayerfsError, NotFound, NotReady, Unsupported
from layerfs.model import Stack
from layerfs.union import work
from layerfs.union.options import UnionOptions
from layerfs.union.union import Union
from layerfs.union.validate import validate
from tests.host import require
from tests.union.box import as_person

CASES = [
    ("", "u", "w", "m", InvalidArgument, "no layer given"),
    ("none", "u", "w", "m", NotFound, "layer .*none is not there"),
    ("file", "u", "w", "m", InvalidArgument, "Not a directory"),
    ("a:a", "u", "w", "m", InvalidArgument, "layer .*a is given twice"),
    ("a:link", "u", "w", "m", InvalidArgument, "layer .*link is given twice"),
    ("a:a/in", "u", "w", "m", InvalidArgument, "layer .*in is inside layer .*a"),
    ("a", "u", "", "m", InvalidArgument, "come together"),
    ("a", "", "w", "m", InvalidArgument, "come together"),
    ("a", "none", "w", "m", NotFound, "upper directory .*none is not there"),
    ("a", "a", "w", "m", InvalidArgument, "upper directory .*a is also a layer"),
    ("a", "u", "u", "m", InvalidArgument, "work directory .*u is the upper directory itself"),
    ("a", "a/in", "w", "m", InvalidArgument, "upper directory .*in is inside layer"),
    ("a", "u", "a/in", "m", InvalidArgument, "work directory .*in is inside layer"),
    ("a", "u", "u/in", "m", InvalidArgument, "inside each other"),
    ("u/in", "u", "w", "m", InvalidArgument, "is inside the upper directory"),
    ("w/in", "u", "w", "m", InvalidArgument, "is inside the work directory"),
    ("a", "u", "/dev/shm", "m", InvalidArgument, "different filesystems"),
    ("a", "u", "w", "u", InvalidArgument, "is the upper or work directory itself"),
    ("a", "u", "w", "a/in", InvalidArgument, "mountpoint .* is inside its own layer"),
    ("a", "u", "w", ".", InvalidArgument, "mountpoint .* is above its own layer"),
    ("a", "u", "w", "none", NotFound, "mountpoint .*none is not there"),
]  # fmt: skip


@pytest.fixture
def place(disk: Path) -> Path:
    for name in ("a/in", "u/in", "w/in", "m"):
        (disk / name).mkdir(parents=True)
    (disk / "file").touch()
    (disk / "link").symlink_to("a")
    return disk


def stack_of(place: Path, lowers: str, upper: str, scratch: str) -> Stack:
    def path(name: str) -> bytes | None:
        return os.fsencode(place / name) if name else None

    return Stack(tuple(os.fsencode(place / name) for name in lowers.split(":") if name), path(upper), path(scratch))


@pytest.mark.parametrize(("lowers", "upper", "scratch", "mountpoint", "kind", "sentence"), CASES)
def test_refusal(
    place: Path, lowers: str, upper: str, scratch: str, mountpoint: str, kind: type[LayerfsError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        Union.open(stack_of(place, lowers, upper, scratch), UnionOptions(), os.fsencode(place / mountpoint))


def test_work_directory_in_use(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "LOCK_PATIENCE", 0)
    union = Union.open(stack_of(place, "a", "u", "w"), UnionOptions())
    for upper, scratch in (("u", "w"), ("m", "w"), ("u", "m")):
        with pytest.raises(NotReady, match="in use by another mount"):
            Union.open(stack_of(place, "a", upper, scratch), UnionOptions())
    union.close()
    Union.open(stack_of(place, "a", "u", "w"), UnionOptions()).close()


def test_crashed_volatile_mount_is_refused_and_a_clean_one_is_not(place: Path) -> None:
    stack, options = stack_of(place, "a", "u", "w"), UnionOptions(volatile=True)
    Union.open(stack, options).close()
    union = Union.open(stack, options)
    assert (place / "w/work/incompat/volatile").is_dir()
    union._ov.options = UnionOptions()  # so that closing it is a crash
    union.close()
    with pytest.raises(InvalidArgument, match="ended in a crash"):
        Union.open(stack, UnionOptions())


def test_kernel_refuses_our_volatile_mark_too(place: Path, require: Callable[..., None]) -> None:
    require("kernel overlay")
    union = Union.open(stack_of(place, "a", "u", "w"), UnionOptions(volatile=True))
    union._ov.options = UnionOptions()
    union.close()
    words = f"lowerdir={place}/a,upperdir={place}/u,workdir={place}/w"
    done = subprocess.run(["mount", "-i", "-t", "overlay", "o", "-o", words, str(place / "m")], check=False)
    assert done.returncode != 0


def test_leftovers_are_emptied_and_foreign_names_stay(place: Path) -> None:
    """A directory given as --work lost what bore a number, or began with #."""
    for name in ("work/5/x", "work/#6", "index/00fb1d", "17", "2026/photos", "#draft", "precious", "incompat"):
        (place / "w" / name).mkdir(parents=True)
    os.chmod(place / "w/work/5/x", 0)
    os.chmod(place / "w/work", 0)
    Union.open(stack_of(place, "a", "u", "w"), UnionOptions()).close()
    assert sorted(os.listdir(place / "w")) == ["#draft", "17", "2026", "in", "incompat", "precious", "work"]
    assert os.listdir(place / "w/work") == []


@pytest.mark.parametrize("made", ["notes", "directory"])
def test_an_index_that_no_kernel_made_stays(place: Path, made: str) -> None:
    (place / "w/index").mkdir()
    (place / "w/index" / made).mkdir()
    (place / "w/index/00fb1d").touch()
    Union.open(stack_of(place, "a", "u", "w"), UnionOptions()).close()
    assert sorted(os.listdir(place / "w/index")) == ["00fb1d", made]


def test_scratch_that_is_a_symlink_is_refused(place: Path) -> None:
    (place / "w/work").symlink_to("../a")
    with pytest.raises(InvalidArgument):
        Union.open(stack_of(place, "a", "u", "w"), UnionOptions())
    assert os.listdir(place / "a") == ["in"]


STRANGER = 4711


def test_scratch_that_somebody_else_made_is_refused(place: Path) -> None:
    """Root staged copies in a directory of a user's, who exchanged them for symlinks."""
    require("root")
    (place / "w/work").mkdir()
    (place / "w/work/theirs").touch()
    os.chown(place / "w/work", STRANGER, STRANGER)
    with pytest.raises(InvalidArgument, match=f"belongs to somebody else .uid {STRANGER}"):
        Union.open(stack_of(place, "a", "u", "w"), UnionOptions())
    assert os.listdir(place / "w/work") == ["theirs"]
    assert (place / "w/work").stat().st_uid == STRANGER


def test_scratch_in_a_directory_of_somebody_else_is_ours(place: Path) -> None:
    require("root")
    os.chown(place / "w", STRANGER, STRANGER)
    union = Union.open(stack_of(place, "a", "u", "w"), UnionOptions())
    st = (place / "w/work").stat()
    assert (st.st_uid, st.st_mode & 0o7777) == (0, 0o700)
    union.close()


def test_a_work_directory_that_became_a_symlink_is_not_followed(place: Path) -> None:
    (place / "w").rename(place / "real")
    (place / "real/work").mkdir()
    (place / "real/work/thesis").touch()
    (place / "w").symlink_to("real")
    with pytest.raises(InvalidArgument, match="is a symlink"):
        Union.open(stack_of(place, "a", "u", "w"), UnionOptions())
    assert os.listdir(place / "real/work") == ["thesis"]


@pytest.mark.parametrize("name", ["u", "w"])
@pytest.mark.parametrize("how", [fcntl.LOCK_SH, fcntl.LOCK_EX])
def test_a_lock_of_whoever_can_read_keeps_nobody(place: Path, name: str, how: int) -> None:
    fd = os.open(place / name, os.O_RDONLY)
    fcntl.flock(fd, how)
    try:
        Union.open(stack_of(place, "a", "u", "w"), UnionOptions()).close()
    finally:
        os.close(fd)


def test_a_filesystem_that_shows_us_as_another_user_is_usable(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS with root_squash, and FUSE filesystems that show all files as one user's."""
    require("root")
    shown = os.fstat

    def squashed(fd: int) -> os.stat_result:
        st = list(shown(fd))
        st[4] = STRANGER
        return os.stat_result(st)

    monkeypatch.setattr(os, "fstat", squashed)
    base = os.open(place / "w", os.O_RDONLY)
    os.mkdir(b"work", dir_fd=base)
    try:
        assert work.owner_here(base) == STRANGER
        os.close(work._open_ours(base, "w"))
    finally:
        os.close(base)
    assert sorted(os.listdir(place / "w")) == ["in", "work"]


def test_the_root_may_be_a_layer_while_the_rest_is_on_another_filesystem(scratch: Path) -> None:
    """It was refused by path; kernel overlayfs takes it, and what is mounted in a layer is not in the layer."""
    require("root")
    for name in "uwm":
        (scratch / name).mkdir()
    if os.stat(scratch).st_dev == os.stat("/").st_dev:
        pytest.skip("no filesystem in memory")
    stack = Stack((b"/",), os.fsencode(scratch / "u"), os.fsencode(scratch / "w"))
    with closing(Union.open(stack, UnionOptions(), os.fsencode(scratch / "m"))) as union:
        node, _ = union.lookup(1, b"dev")
        union.remember(node)
        inner, _ = union.lookup(node.ino, b"shm")
        union.remember(inner)
        assert union.names(inner.ino) == []


def test_a_plain_user_cannot_leave_out_what_is_mounted_in_a_layer(scratch: Path) -> None:
    require("root")
    for name in "uwm":
        (scratch / name).mkdir()
        os.chown(scratch / name, 1234, 1234)
    os.chmod(scratch, 0o755)
    if os.stat(scratch).st_dev == os.stat("/").st_dev:
        pytest.skip("no filesystem in memory")
    stack = Stack((b"/",), os.fsencode(scratch / "u"), os.fsencode(scratch / "w"))
    with as_person(1234, 1234), pytest.raises(Unsupported, match="of this very mount"):
        Union.open(stack, UnionOptions(), os.fsencode(scratch / "m"))


def test_directories_above_many_layers_are_looked_at_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each was looked at once for every layer in it, and again to find mounts: half the time that 200 layers took."""
    layers = []
    for number in range(50):
        layers.append(place / f"a/b/c/{number}/fs")
        layers[-1].mkdir(parents=True)
    looked: list[bytes] = []

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(path: bytes, *rest: Any, **more: Any) -> Any:
            looked.append(path)
            return call(path, *rest, **more)

        return counting

    monkeypatch.setattr(os, "stat", counted(os.stat))
    monkeypatch.setattr(os, "lstat", counted(os.lstat))
    validate(Stack(tuple(map(bytes, layers))), None)
    assert len(looked) < 50 * 6
