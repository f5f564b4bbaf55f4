"""Points 10 and 11: what cannot be mounted says so; work directories of crashes and of others are emptied."""

import os
import subprocess

from tests.oracle.trees import Layer, file
from tests.semantics.mounted import Mounted, append, read, root_only, write

LOWER: Layer = {b"f": file(b"f"), b"d/x": file(b"x")}


def refused(union: Mounted, *words: str, status: int = 1) -> None:
    """Assert that the mount is refused in one sentence that contains `words`."""
    done = union.attempt(union.command())
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.startswith("layerfs: ") and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert not os.path.ismount(union.root)


def prepare(union: Mounted, *layers: Layer) -> None:
    union.build(*layers)
    for directory in (union.root, union.upper, union.work):
        os.makedirs(directory, exist_ok=True)


def test_a_mountpoint_inside_a_layer(union: Mounted) -> None:
    prepare(union, LOWER)
    union.root = union.lowers[0] + b"/d"
    refused(union, "mountpoint")
    union.root = union.upper + b"/m"
    os.mkdir(union.root)
    refused(union, "mountpoint")


def test_a_mountpoint_above_its_layers(union: Mounted) -> None:
    """Such a mount deadlocks where it is not refused."""
    prepare(union, LOWER)
    union.root = union.base
    refused(union, "mountpoint")


def test_a_mountpoint_that_is_a_layer(union: Mounted) -> None:
    """In place: the kernel allows it too; the layer is held open before it is covered."""
    prepare(union, LOWER, {b"g": file(b"g")})
    union.root = union.lowers[0]
    union.mount()
    append(union / b"f", b"+")
    assert union.names() == [b"d", b"f", b"g"]
    union.unmount()
    assert read(union.lowers[0] + b"/f") == b"f" and read(union.upper + b"/f") == b"f+"


def test_an_upper_inside_a_lower_and_a_lower_inside_the_upper(union: Mounted) -> None:
    prepare(union, LOWER)
    union.upper = union.lowers[0] + b"/d"
    refused(union, "upper")
    union.upper = union.base + b"/u"
    union.work = union.upper + b"/work"
    os.mkdir(union.work)
    refused(union, "work")


@root_only
def test_upper_and_work_on_different_filesystems(union: Mounted) -> None:
    prepare(union, LOWER)
    assert subprocess.run(["mount", "-t", "tmpfs", "none", os.fsdecode(union.work)], check=False).returncode == 0
    refused(union, "filesystem")


def test_a_work_directory_in_use(union: Mounted) -> None:
    union.mount(LOWER)
    first, union.root = union.root, union.base + b"/m2"
    os.mkdir(union.root)
    union.upper = union.base + b"/u2"
    os.mkdir(union.upper)
    refused(union, "use")
    union.root = first
    union.upper = union.base + b"/u"
    append(union / b"f", b"+")
    union.remount()
    assert read(union / b"f") == b"f+"


def test_an_upper_in_use_with_another_work(union: Mounted) -> None:
    union.mount(LOWER)
    first, union.root, union.work = union.root, union.base + b"/m2", union.base + b"/w2"
    for directory in (union.root, union.work):
        os.mkdir(directory)
    refused(union, "use")
    union.root = first


def test_missing_and_doubled_layers(union: Mounted) -> None:
    prepare(union, LOWER, LOWER)
    lowers = union.lowers
    union.lowers = [*lowers, union.base + b"/absent"]
    refused(union, "absent")
    union.lowers = [*lowers, lowers[0]]
    refused(union, "l0")
    os.symlink(lowers[0], union.base + b"/alias")
    union.lowers = [*lowers, union.base + b"/alias"]
    refused(union, "alias")
    write(union.base + b"/file", b"")
    union.lowers = [union.base + b"/file"]
    refused(union, "file")
    union.lowers = lowers
    union.upper = union.base + b"/no-upper"
    refused(union, "no-upper")


def test_unknown_options_are_named(union: Mounted) -> None:
    prepare(union, LOWER)
    union.options = "frobnicate=1"
    refused(union, "frobnicate", status=2)


def test_leftovers_in_the_work_directory_are_emptied(union: Mounted) -> None:
    """Of a crash, of kernel overlayfs, of fuse-overlayfs: nothing shows, nothing collides; all else stays."""
    prepare(union, LOWER)
    for name in (b"work", b"index", b"#1", b"2026"):
        os.makedirs(union.work + b"/" + name + b"/deep/er")
        write(union.work + b"/" + name + b"/deep/file", b"left over")
    os.rename(union.work + b"/index/deep", union.work + b"/index/00fb1d")
    for index in range(50):
        write(union.work + b"/work/%d" % index, b"left over")
    os.symlink(union.upper, union.work + b"/work/link")
    os.chmod(union.work + b"/work/deep", 0)
    union.mount()
    before = union.tree().records
    assert sorted(before) == [b"", b"d", b"d/x", b"f"]
    append(union / b"f", b"+")
    os.rename(union / b"d", union / b"e")
    for index in range(60):
        write(union / b"%d" % index, b"")
        os.unlink(union / b"%d" % index)
    union.remount()
    assert union.names() == [b"e", b"f"]
    union.unmount()
    left = [place for place, _, files in os.walk(union.work) if files]
    assert sorted(left) == [union.work + b"/#1/deep", union.work + b"/2026/deep"]
    assert sorted(os.listdir(union.upper))[-1] == b"f"


def test_the_mounts_root_is_a_directory_like_any_other(union: Mounted) -> None:
    union.build(LOWER, {b"g": file(b"g")})
    os.chmod(union.lowers[0], 0o751)
    os.setxattr(union.lowers[0], "user.root", b"1")
    union.mount()
    os.stat(union.root)  # else the kernel's FUSE client compares a person's uid with one that it never asked for
    os.chmod(union.root, 0o711)
    os.setxattr(union.root, "user.mine", b"2")
    os.utime(union.root, ns=(5, 5))
    union.remount()
    now = os.stat(union.root)
    assert (now.st_mode & 0o7777, now.st_mtime_ns) == (0o711, 5)
    assert "user.mine" in os.listxattr(union.root)
    for name in (b"f", b"g"):
        os.unlink(union / name)
        os.mkdir(union / name)
    os.rename(union / b"d", union / b"d2")
    os.mkdir(union / b"d")
    for _ in range(2):
        assert {name: union.names(name) for name in union.names()} == {b"d": [], b"d2": [b"x"], b"f": [], b"g": []}
        assert os.stat(union.root).st_ino == os.stat(union / b".").st_ino == os.stat(union / b"d/..").st_ino
        union.remount()
