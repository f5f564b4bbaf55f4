"""The kernel driver: what options become, what is refused and in which words, as root and in a user namespace."""

import errno
import fcntl
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, LayerfsError, NotFound, NotReady, Unsupported
from layerfs.model import Driver, Stack
from layerfs.mounts import kernel
from layerfs.mounts.choice import choose
from layerfs.mounts.kernel import explain, mount_kernel
from layerfs.spec.overlay import kernel_options, unsupported
from layerfs.sys.mounts import MountFlag, mountinfo, unmount
from layerfs.union.options import IdRange, OverrideStat, RedirectDir, UnionOptions
from layerfs.union.union import Union
from tests.conftest import mounts_below
from tests.host import BIN, Person, require
from tests.images import make_image
from tests.waiting import PATIENCE

REFUSED = {
    "uidmapping": UnionOptions(uid_map=(IdRange(0, 1000, 1),)),
    "gidmapping": UnionOptions(gid_map=(IdRange(0, 1000, 1),)),
    "squash_to_uid": UnionOptions(squash_uid=0),
    "squash_to_gid": UnionOptions(squash_gid=0),
    "xattr_permissions=2": UnionOptions(override_stat=OverrideStat.CONTAINERS),
    "noacl": UnionOptions(acl=False),
    "fsync=0 without volatile": UnionOptions(fsync=False),
}


@dataclass(frozen=True)
class Place:
    """Two layers (`top` whites out a file of `bottom`), an upper, its work directory and a mountpoint."""

    root: Path

    def path(self, name: str) -> bytes:
        return os.fsencode(self.root / name)

    @property
    def lowers(self) -> tuple[bytes, ...]:
        return self.path("top"), self.path("bottom")

    @property
    def stack(self) -> Stack:
        return Stack(self.lowers, self.path("upper"), self.path("work"))

    def names(self, name: str = "merged") -> list[str]:
        return sorted(os.listdir(self.root / name))

    def super_options(self) -> set[bytes]:
        return {option for info in mountinfo() if info.target == self.path("merged") for option in info.super_options}


@pytest.fixture
def place(scratch: Path) -> Iterator[Place]:
    require("kernel overlay")
    for name in ("top", "bottom/directory", "upper", "work", "merged", "other"):
        (scratch / name).mkdir(parents=True)
    (scratch / "bottom" / "gone").touch()
    (scratch / "bottom" / "kept").write_text("kept")
    os.mknod(scratch / "top" / "gone", stat.S_IFCHR, 0)
    yield Place(scratch)


def test_root_writes_trusted_marks_and_renames_merged_directories(place: Place) -> None:
    mount_kernel(place.stack, UnionOptions(), place.path("merged"))
    assert place.names() == ["directory", "kept"]
    os.rename(place.root / "merged/directory", place.root / "merged/renamed")
    assert os.getxattr(place.root / "upper/renamed", "trusted.overlay.redirect") == b"directory"


def test_generic_flags_are_the_mounts(place: Place) -> None:
    mount_kernel(place.stack, UnionOptions(), place.path("merged"), MountFlag.RDONLY | MountFlag.NODEV)
    with pytest.raises(OSError, match="Read-only"):
        (place.root / "merged/new").touch()
    (info,) = [info for info in mountinfo() if info.target == place.path("merged")]
    assert {b"ro", b"nodev"} <= set(info.options)


@pytest.mark.parametrize("lowers", [1, 2])
def test_stack_without_an_upper_is_read_only_and_shows_no_marks(place: Place, lowers: int) -> None:
    mount_kernel(Stack(place.lowers[:lowers]), UnionOptions(volatile=True), place.path("merged"))
    assert place.names() == ([] if lowers == 1 else ["directory", "kept"])
    with pytest.raises(OSError) as caught:
        (place.root / "merged/new").touch()
    assert caught.value.errno == errno.EROFS


@pytest.mark.parametrize("name", REFUSED)
def test_option_that_only_fuse_has_is_named(place: Place, name: str) -> None:
    with pytest.raises(Unsupported, match=f"cannot do {name}"):
        mount_kernel(place.stack, REFUSED[name], place.path("merged"))
    assert choose(Driver.AUTO, place.stack, REFUSED[name]) == (Driver.FUSE, f"kernel overlayfs cannot do {name}")


@pytest.mark.parametrize(
    ("options", "root", "user"),
    [
        (UnionOptions(), "xino=auto redirect_dir=on", "xino=auto userxattr"),
        (UnionOptions(xino=False), "xino=off redirect_dir=on", "xino=off userxattr"),
        (UnionOptions(redirect_dir=RedirectDir.OFF), "xino=auto redirect_dir=follow", "xino=auto userxattr"),
        (UnionOptions(redirect_dir=RedirectDir.NOFOLLOW), "xino=auto redirect_dir=nofollow", "xino=auto userxattr"),
        (UnionOptions(volatile=True), "xino=auto redirect_dir=on volatile", "xino=auto userxattr volatile"),
        (UnionOptions(userxattr=True), "xino=auto userxattr", "xino=auto userxattr"),
        (
            UnionOptions(volatile=True, fsync=False),
            "xino=auto redirect_dir=on volatile",
            "xino=auto userxattr volatile",
        ),
        (
            UnionOptions(static_nlink=True, timeout=0, writeback=False),
            "xino=auto redirect_dir=on",
            "xino=auto userxattr",
        ),
    ],
)
def test_options_in_overlayfs_words(options: UnionOptions, root: str, user: str) -> None:
    assert " ".join(kernel_options(options, writable=True, trusted=True)) == root
    assert " ".join(kernel_options(options, writable=True, trusted=False)) == user


def test_every_combination_of_words_is_taken_by_the_kernel(place: Place) -> None:
    for redirect in RedirectDir:
        for options in (
            UnionOptions(redirect_dir=redirect),
            UnionOptions(redirect_dir=redirect, xino=False),
            UnionOptions(redirect_dir=redirect, userxattr=True),
            UnionOptions(redirect_dir=redirect, metacopy=True),
        ):
            if unsupported(options, trusted=True):
                continue
            for stack in (place.stack, Stack(place.lowers)):
                mount_kernel(stack, options, place.path("merged"))
                unmount(place.path("merged"))


def test_directory_of_a_packed_layer_has_the_same_number_in_every_mount(place: Place) -> None:
    """Squashfs has no UUID, so xino=auto is off: a directory that the kernel forgot came back with another number."""
    require("root", "mksquashfs")
    image = make_image(place.root / "image", place.root / "bottom")
    (place.root / "packed").mkdir()
    subprocess.run(["mount", "-o", "loop,ro", image, place.root / "packed"], check=True)
    try:
        numbers = set()
        for first in ("directory", "directory2"):
            (place.root / "top/directory2").mkdir(exist_ok=True)
            lowers = (place.path("top"), place.path("packed"))
            mount_kernel(Stack(lowers, place.path("upper"), place.path("work")), UnionOptions(), place.path("merged"))
            assert b"xino=on" in place.super_options()
            (place.root / "merged" / first).stat()
            numbers.add((place.root / "merged/directory").stat().st_ino)
            unmount(place.path("merged"))
        assert len(numbers) == 1
    finally:
        unmount(place.path("packed"))


def test_redirects_are_refused_only_where_marks_are_the_users() -> None:
    options = UnionOptions(redirect_dir=RedirectDir.ON)
    assert unsupported(options, trusted=True) == ""
    assert unsupported(options, trusted=False) == "redirect_dir=on in a user namespace"
    marks = UnionOptions(redirect_dir=RedirectDir.ON, userxattr=True)
    assert unsupported(marks, trusted=True) == "redirect_dir=on with userxattr"


@pytest.mark.parametrize(
    ("options", "trusted", "refusal"),
    [
        (UnionOptions(metacopy=True), True, ""),
        (UnionOptions(metacopy=True), False, "metacopy=on in a user namespace"),
        (UnionOptions(metacopy=True, userxattr=True), True, "metacopy=on with userxattr"),
        (UnionOptions(metacopy=True, redirect_dir=RedirectDir.OFF), True, "metacopy=on without redirect_dir=on"),
    ],
)
def test_metacopy_is_refused_where_overlayfs_refuses_it(options: UnionOptions, trusted: bool, refusal: str) -> None:
    assert unsupported(options, trusted=trusted) == refusal


def test_volatile_upper_is_refused_after_a_crash_and_says_how_to_go_on(place: Place) -> None:
    options = UnionOptions(volatile=True)
    mount_kernel(place.stack, options, place.path("merged"))
    assert b"volatile" in place.super_options() or b"fsync=volatile" in place.super_options()
    unmount(place.path("merged"))  # the kernel takes its mark away at no end
    with pytest.raises(NotReady, match="last mounted volatile"):
        mount_kernel(place.stack, UnionOptions(), place.path("merged"))


@pytest.mark.parametrize("name", ["upper", "work"])
def test_upper_of_another_overlay_is_refused(place: Place, name: str) -> None:
    mount_kernel(place.stack, UnionOptions(), place.path("merged"))
    for free in {"upper", "work"} - {name}:
        (place.root / f"{free}2").mkdir()
    upper, work = (name if name == own else f"{own}2" for own in ("upper", "work"))
    with pytest.raises(NotReady, match=rf"{name} is in use by the overlay at .*merged"):
        mount_kernel(Stack(place.lowers, place.path(upper), place.path(work)), UnionOptions(), place.path("other"))
    assert place.names("other") == []


@pytest.mark.parametrize("name", ["upper", "work"])
def test_upper_of_a_fuse_mount_is_refused(place: Place, name: str) -> None:
    (place.root / "other-upper").mkdir()
    (place.root / "other-work").mkdir()
    union = Union.open(place.stack, UnionOptions())
    upper, work = (place.path(own if own == name else f"other-{own}") for own in ("upper", "work"))
    try:
        with pytest.raises(NotReady, match=f"{name} is in use by another layerfs mount"):
            mount_kernel(Stack(place.lowers, upper, work), UnionOptions(), place.path("merged"))
    finally:
        union.close()


@pytest.mark.parametrize("name", ["upper", "work"])
def test_a_lock_of_whoever_can_read_keeps_nobody(place: Place, name: str) -> None:
    fd = os.open(place.root / name, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        mount_kernel(place.stack, UnionOptions(), place.path("merged"))
    finally:
        os.close(fd)
    unmount(place.path("merged"))


def test_upper_on_an_overlay_is_refused_in_the_kernels_words(place: Place) -> None:
    mount_kernel(place.stack, UnionOptions(), place.path("merged"))
    for name in ("upper", "work"):
        (place.root / "merged" / name).mkdir()
    stack = Stack((place.path("bottom"),), place.path("merged/upper"), place.path("merged/work"))
    with pytest.raises(Unsupported, match="not supported as upperdir"):
        mount_kernel(stack, UnionOptions(), place.path("other"))
    assert choose(Driver.AUTO, stack, UnionOptions())[0] is Driver.FUSE


def test_filesystem_without_xattrs_is_refused_before_it_fails_with_eio(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """overlayfs mounts there, and the first mkdir over a whiteout is EIO."""

    def refuse(_path: bytes, name: str, _value: bytes) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(kernel, "trusted_xattrs", lambda: True)
    monkeypatch.setattr(os, "setxattr", refuse)
    with pytest.raises(Unsupported, match=r"keeps no trusted\.\* xattrs"):
        mount_kernel(place.stack, UnionOptions(), place.path("merged"))


@pytest.mark.parametrize(
    ("lowers", "mountpoint", "error", "words"),
    [
        (("top", "nowhere"), "merged", NotFound, "nowhere is not there"),
        (("top", "top"), "merged", InvalidArgument, "given twice"),
        (("top", "bottom"), "bottom/directory", InvalidArgument, "inside its own layer"),
        (("top", "bottom"), ".", InvalidArgument, "above its own layer"),
        (("top", "bottom"), "nowhere", NotFound, "nowhere is not there"),
    ],
)
def test_impossible_stack_is_refused_as_the_union_refuses_it(
    place: Place, lowers: tuple[str, ...], mountpoint: str, error: type[LayerfsError], words: str
) -> None:
    with pytest.raises(error, match=words):
        mount_kernel(Stack(tuple(map(place.path, lowers))), UnionOptions(), place.path(mountpoint))
    assert mounts_below(place.root) == []


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EPERM, Unsupported, "this user may not mount"),
        (errno.ENODEV, Unsupported, "no overlayfs"),
        (errno.ELOOP, InvalidArgument, "inside another"),
        (errno.EBUSY, NotReady, "in use"),
        (errno.ENOENT, NotFound, "there is no directory /nowhere"),
        (errno.ESTALE, Unsupported, "refuses this stack at /x: Stale"),
    ],
)
def test_errors_of_the_kernel_are_explained(number: int, kind: type[LayerfsError], words: str) -> None:
    error = explain(OSError(number, os.strerror(number), b"/x"), Stack((b"/", b"/nowhere")))
    assert type(error) is kind
    assert words in error.message
    assert error.hint


def test_more_lowers_than_the_kernel_takes_are_counted() -> None:
    error = explain(OSError(errno.EINVAL, "Invalid argument"), Stack((b"/",) * 501))
    assert error.message == "kernel overlayfs takes 500 lowers, not 501"


AS_USER = """
import os, sys
from layerfs.errors import LayerfsError
from layerfs.model import Driver, Stack
from layerfs.mounts.choice import choose
from layerfs.mounts.kernel import mount_kernel
from layerfs.sys.namespaces import Namespace, enter_user_namespace, unshare
from layerfs.union.union import Union
from layerfs.union.options import UnionOptions
stack = Stack((b"top", b"bottom"), b"upper", b"work")
stack = Stack(tuple(map(os.path.abspath, stack.lowers)), os.path.abspath(b"upper"), os.path.abspath(b"work"))
print(*choose(Driver.AUTO, stack, UnionOptions()))
try:
    mount_kernel(stack, UnionOptions(), os.path.abspath(b"merged"))
except LayerfsError as error:
    print(error.message)
enter_user_namespace()
unshare(Namespace.MOUNT)
print(*choose(Driver.AUTO, stack, UnionOptions()))
mount_kernel(stack, UnionOptions(), os.path.abspath(b"merged"))
os.chdir("merged")
os.rmdir("directory")
os.mkdir("directory")
print(sorted(os.listdir()))
"""


def test_person_has_fuse_outside_and_the_kernel_inside_a_user_namespace(scratch: Path, person: Person) -> None:
    require("userns overlay")
    names = ("top", "bottom", "bottom/directory", "upper", "work", "merged")
    person.owns(*(scratch / name for name in names))
    said = person.run([BIN / "python", "-c", AS_USER], cwd=scratch).stdout.splitlines()
    refusal = "this user may not mount kernel overlayfs here"
    assert said == [
        f"Driver.FUSE {refusal}",
        refusal,
        "Driver.KERNEL kernel overlayfs accepts these layers here",
        "['directory']",
    ]
    assert os.getxattr(scratch / "upper/directory", "user.overlay.opaque") == b"y"
    assert os.listdir(scratch / "merged") == []


def test_three_hundred_layers_mount_through_the_command_line(scratch: Path) -> None:
    require("kernel overlay")
    layers = [scratch / f"{'l' * 200}{number}" for number in range(300)]
    for layer in layers:
        layer.mkdir()
        (layer / layer.name[-9:]).touch()
    (scratch / "merged").mkdir()
    command = [str(BIN / "layerfs"), "mount", "--driver=kernel", *map(str, layers), str(scratch / "merged")]
    subprocess.run(command, check=True, timeout=PATIENCE)
    assert len(os.listdir(scratch / "merged")) == 300
