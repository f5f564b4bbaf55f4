"""Point 5: everything can be renamed, with every flag, again and again, and a remount shows the same."""

import errno
import os

import pytest

from tests.oracle.operations import EXCHANGE, NOREPLACE, RENAME_WHITEOUT, renameat2
from tests.oracle.trees import WHITEOUT, Layer, directory, file, hardlink, symlink
from tests.semantics.mounted import Mounted, error_of, read, write

LOWERS: tuple[Layer, ...] = (
    {b"m/a": file(b"top"), b"m/gone": WHITEOUT, b"opq": directory(opaque=True), b"opq/n": file(b"n")},
    {b"m/a": file(b"low"), b"m/b": file(b"b"), b"m/gone": file(), b"opq/hidden": file(), b"pure/s/f": file(b"f")},
    {b"m/c": symlink(b"b"), b"low": file(b"low"), b"f2": file(b"f2")},
)
MERGED = {b"a": b"top", b"b": b"b", b"c": b"b"}


def content(union: Mounted, path: bytes) -> dict[bytes, bytes]:
    return {name: read(union / path + b"/" + name) for name in union.names(path)}


@pytest.mark.parametrize("options", ["", "redirect_dir=off"])
def test_merged_and_lower_directories_are_renamed(union: Mounted, options: str) -> None:
    union.mount(*LOWERS, options=options)
    os.rename(union / b"m", union / b"m2")
    os.rename(union / b"pure", union / b"m2/pure")
    os.rename(union / b"opq", union / b"opq2")
    for _ in range(2):
        assert union.names() == [b"f2", b"low", b"m2", b"opq2"]
        assert read(union / b"m2/pure/s/f") == b"f" and content(union, b"opq2") == {b"n": b"n"}
        assert read(union / b"m2/c") == b"b" and not os.path.lexists(union / b"m2/gone")
        union.remount()


@pytest.mark.parametrize("options", ["", "redirect_dir=off"])
def test_rename_then_recreate(union: Mounted, options: str) -> None:
    union.mount(*LOWERS, options=options)
    for name in (b"m", b"pure", b"low"):
        os.rename(union / name, union / name + b".old")
    os.mkdir(union / b"m")
    write(union / b"pure", b"a file now")
    os.mkdir(union / b"low")
    for _ in range(2):
        assert union.names(b"m") == union.names(b"low") == [] and read(union / b"pure") == b"a file now"
        assert content(union, b"m.old") == MERGED and read(union / b"low.old") == b"low"
        assert read(union / b"pure.old/s/f") == b"f"
        union.remount()


@pytest.mark.parametrize("options", ["", "redirect_dir=off"])
def test_chains_of_renames(union: Mounted, options: str) -> None:
    union.mount(*LOWERS, options=options)
    for step in range(6):
        os.rename(union / (b"m%d" % step if step else b"m"), union / b"m%d" % (step + 1))
        if step == 2:
            union.remount()
    os.mkdir(union / b"deep")
    os.rename(union / b"m6", union / b"deep/m")
    os.rename(union / b"pure/s", union / b"deep/m/s")
    os.rename(union / b"deep/m/s", union / b"deep/s")
    os.rename(union / b"deep", union / b"m")
    for _ in range(2):
        assert content(union, b"m/m") == MERGED
        assert read(union / b"m/s/f") == b"f" and union.names(b"pure") == []
        union.remount()


def test_back_to_where_it_was(union: Mounted) -> None:
    union.mount(*LOWERS)
    os.rename(union / b"m", union / b"elsewhere")
    union.remount()
    os.rename(union / b"elsewhere", union / b"m")
    os.rename(union / b"low", union / b"low2")
    os.rename(union / b"low2", union / b"low")
    for _ in range(2):
        assert content(union, b"m") == MERGED and read(union / b"low") == b"low"
        union.remount()


def test_exchange(union: Mounted) -> None:
    union.mount(*LOWERS)
    renameat2(union / b"m", union / b"low", EXCHANGE)  # a merged directory and a lower file
    renameat2(union / b"pure/s", union / b"opq", EXCHANGE)  # lower and opaque, across directories
    write(union / b"new", b"new")
    renameat2(union / b"new", union / b"f2", EXCHANGE)
    for _ in range(2):
        assert read(union / b"m") == b"low" and content(union, b"low") == MERGED
        assert content(union, b"pure/s") == {b"n": b"n"} and content(union, b"opq") == {b"f": b"f"}
        assert read(union / b"new") == b"f2" and read(union / b"f2") == b"new"
        union.remount()
    assert error_of(renameat2, union / b"low", union / b"absent", EXCHANGE) == errno.ENOENT


def test_noreplace(union: Mounted) -> None:
    union.mount(*LOWERS)
    for old, new in [(b"low", b"f2"), (b"m", b"low"), (b"m", b"opq"), (b"low", b"low"), (b"m", b"m")]:
        assert error_of(renameat2, union / old, union / new, NOREPLACE) == errno.EEXIST
    os.unlink(union / b"f2")
    renameat2(union / b"low", union / b"f2", NOREPLACE)  # where only a whiteout is
    renameat2(union / b"m", union / b"low", NOREPLACE)
    union.remount()
    assert read(union / b"f2") == b"low" and content(union, b"low") == MERGED
    assert error_of(renameat2, union / b"f2", union / b"new", NOREPLACE | EXCHANGE) == errno.EINVAL
    assert error_of(renameat2, union / b"f2", union / b"new", 128) == errno.EINVAL


def test_rename_whiteout_is_refused_as_the_kernels_overlayfs_does(union: Mounted) -> None:
    """An overlay over this mount would use it, and then lose the whiteout: nothing here can show it one."""
    union.mount(*LOWERS)
    write(union / b"new", b"new")
    for name in (b"low", b"m", b"new"):
        assert error_of(renameat2, union / name, union / name + b"2", RENAME_WHITEOUT) == errno.EINVAL
    assert read(union / b"new") == b"new"


def test_into_and_out_of_opaque_directories(union: Mounted) -> None:
    union.mount(*LOWERS)
    os.rename(union / b"m", union / b"opq/m")
    os.rename(union / b"low", union / b"opq/hidden")
    os.rename(union / b"opq/n", union / b"pure/n")
    for _ in range(2):
        assert content(union, b"opq/m") == MERGED and read(union / b"opq/hidden") == b"low"
        assert union.names(b"opq") == [b"hidden", b"m"] and read(union / b"pure/n") == b"n"
        union.remount()
    os.rename(union / b"opq/m", union / b"m")
    union.remount()
    assert content(union, b"m") == MERGED and union.names(b"opq") == [b"hidden"]


def test_over_what_is_there(union: Mounted) -> None:
    union.mount(*LOWERS, {b"empty": directory(), b"white/x": file()})
    os.unlink(union / b"white/x")
    cases = [(b"m", b"pure", errno.ENOTEMPTY), (b"m", b"low", errno.ENOTDIR), (b"low", b"m", errno.EISDIR)]
    cases += [(b"m", b"m/inside", errno.EINVAL), (b"m", b"opq", errno.ENOTEMPTY), (b"m/b", b"m", errno.ENOTEMPTY)]
    for old, new, expected in cases[:-1]:
        assert (old, new, error_of(os.rename, union / old, union / new)) == (old, new, expected)
    assert error_of(renameat2, union / b"m", union / b"m/b", EXCHANGE) == errno.EINVAL
    os.rename(union / b"m", union / b"white")  # empty but for a whiteout
    os.rename(union / b"opq", union / b"empty")
    os.rename(union / b"low", union / b"f2")
    for _ in range(2):
        assert content(union, b"white") == MERGED and content(union, b"empty") == {b"n": b"n"}
        assert union.names() == [b"empty", b"f2", b"pure", b"white"] and read(union / b"f2") == b"low"
        union.remount()


def test_a_package_manager_can_swap_a_directory(union: Mounted) -> None:
    """dpkg and rpm: new beside old, old aside, new in place, old removed."""
    union.mount({b"usr/lib/pkg/v1": file(b"1"), b"usr/lib/pkg/sub/x": file(b"x"), b"usr/lib/pkg/h": hardlink(b"usr")})
    os.makedirs(union / b"usr/lib/pkg.new/sub")
    write(union / b"usr/lib/pkg.new/v2", b"2")
    os.rename(union / b"usr/lib/pkg", union / b"usr/lib/pkg.old")
    os.rename(union / b"usr/lib/pkg.new", union / b"usr/lib/pkg")
    for name in (b"v1", b"sub/x"):
        os.unlink(union / b"usr/lib/pkg.old/" + name)
    os.rmdir(union / b"usr/lib/pkg.old/sub")
    os.rmdir(union / b"usr/lib/pkg.old")
    for _ in range(2):
        assert union.names(b"usr/lib") == [b"pkg"] and union.names(b"usr/lib/pkg") == [b"sub", b"v2"]
        union.remount()


def test_what_was_removed_can_be_made_again_in_the_mounts_root(union: Mounted) -> None:
    """Point 10: the root obeys the same rules as every directory (fuse-overlayfs 2.0 loses this at remount)."""
    union.mount(*LOWERS)
    for name in (b"a", b"b", b"c"):
        os.unlink(union / b"m/" + name)
    os.rmdir(union / b"m")
    os.unlink(union / b"low")
    os.mkdir(union / b"m")
    union.remount()
    assert union.names(b"m") == [] and not os.path.lexists(union / b"low")
    os.rmdir(union / b"m")
    union.remount()
    assert union.names() == [b"f2", b"opq", b"pure"]
