"""What the server changes by itself is told to the kernel: it keeps what it was told for a day."""

import os
import stat
from collections.abc import Callable

import pytest

from tests.oracle.trees import directory, file
from tests.semantics.mounted import Mounted, acting_as, append, root_only, write

ANNE = 1000


def ctimes(path: bytes) -> tuple[int, int]:
    """Return what stat shows of the change time, and what is on the upper's disk."""
    return os.lstat(path).st_ctime_ns, os.lstat(path.replace(b"/m/", b"/u/")).st_ctime_ns


def _append(path: bytes) -> None:
    append(path, b"x")


def _overwrite(path: bytes) -> None:
    with open(path, "r+b") as target:
        target.write(b"x")


def _truncate_open(path: bytes) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))


def _truncate(path: bytes) -> None:
    os.truncate(path, 1)


@root_only
@pytest.mark.parametrize("change", [_append, _overwrite, _truncate_open, _truncate])
@pytest.mark.parametrize("options", ["", "writeback=0", "xattr_permissions=1"])
def test_a_write_by_somebody_else_takes_setuid_for_all_to_see(
    union: Mounted, change: Callable[[bytes], None], options: str
) -> None:
    """The mode on disk was right, and the mount showed, and honoured, the old one for a day."""
    union.mount({b"f": file(b"data", mode=0o6777), b"g": file(b"data", mode=0o6767)}, options=options)
    for name, before, left in ((b"f", 0o6777, 0o777), (b"g", 0o6767, 0o767)):
        assert stat.S_IMODE(os.lstat(union / name).st_mode) == before
        with acting_as(ANNE):
            change(union / name)
        assert stat.S_IMODE(os.lstat(union / name).st_mode) == left


def test_a_directory_shows_the_change_time_of_its_copy(union: Mounted) -> None:
    """A copy-up in it is a rename, which changes it; and so is its own copy-up."""
    union.mount({b"d": directory(), b"d/e": directory(), b"d/e/f": file(b"data"), b"d/e/g": file(b"data")})
    for name in (b"d", b"d/e", b"d/e/f"):
        os.lstat(union / name)
    append(union / b"d/e/f", b"more")
    for name in (b"d", b"d/e"):
        shown, there = ctimes(union / name)
        assert shown == there
    os.chmod(union / b"d/e/g", 0o600)
    shown, there = ctimes(union / b"d/e")
    assert shown == there


def test_directories_of_a_hard_link_show_the_change_time_of_their_copies(union: Mounted) -> None:
    union.mount({b"a": directory(), b"a/one": file(b"data"), b"b": directory()})
    os.link(union.lowers[0] + b"/a/one", union.lowers[0] + b"/b/two")
    for name in (b"a", b"b", b"a/one", b"b/two"):
        os.lstat(union / name)
    write(union / b"a/one", b"new")
    assert os.lstat(union / b"a/one").st_ino == os.lstat(union / b"b/two").st_ino
    for name in (b"a", b"b"):
        if os.path.exists((union / name).replace(b"/m/", b"/u/")):
            shown, there = ctimes(union / name)
            assert shown == there
