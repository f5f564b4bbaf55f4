"""Whose an upper is: told on the upper, whoever asks and whatever serves it."""

import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.errors import NotReady
from layerfs.model import Stack
from layerfs.sys.process_id import ProcessId, birth, own_process
from layerfs.union import work
from layerfs.union.claim import CLAIM, claim, holder, release, renew
from layerfs.union.options import UnionOptions
from layerfs.union.union import Union
from layerfs.value import replace
from tests.host import require


@pytest.fixture
def upper(scratch: Path) -> Iterator[int]:
    require("user xattrs")
    fd = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def other() -> Iterator[ProcessId]:
    """Another process that lasts."""
    with subprocess.Popen(["sleep", "600"]) as child:
        yield replace(own_process(), pid=child.pid, born=birth(child.pid))
        child.kill()


def test_what_is_claimed_by_this_process_may_be_claimed_again_and_released(upper: int) -> None:
    assert claim(upper)
    assert claim(upper)
    assert os.getxattr(upper, CLAIM) == own_process().spell()
    assert holder(upper) is None
    release(upper)
    assert os.listxattr(upper) == []
    release(upper)


def test_what_another_process_has_is_not_claimed_nor_released(upper: int, other: ProcessId) -> None:
    os.setxattr(upper, CLAIM, other.spell())
    assert not claim(upper)
    assert holder(upper) == other
    release(upper)
    assert os.getxattr(upper, CLAIM) == other.spell()


@pytest.mark.parametrize("left", [b"", b"nonsense", b"boot 1 2 3", b"\0" * 4096])
def test_what_a_crash_or_a_stranger_left_is_in_nobodys_way(upper: int, left: bytes) -> None:
    os.setxattr(upper, CLAIM, left)
    assert claim(upper)
    assert os.getxattr(upper, CLAIM) == own_process().spell()


def test_a_readers_lock_keeps_nobody(upper: int, scratch: Path) -> None:
    os.setxattr(upper, CLAIM, b"left")
    reader = os.open(scratch, os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_EX)
    assert claim(upper)
    os.close(reader)


def test_a_child_goes_on_with_what_its_parent_claimed(upper: int) -> None:
    assert claim(upper)
    pid = os.fork()
    if pid == 0:
        renew(upper)
        os._exit(0 if os.getxattr(upper, CLAIM) == own_process().spell() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.getxattr(upper, CLAIM) != own_process().spell()


def test_an_upper_of_another_process_with_a_work_directory_of_its_own_is_refused(
    scratch: Path, other: ProcessId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two users' mounts, each with its work directory, wrote one upper: each knew only its own lock file."""
    require("user xattrs")
    monkeypatch.setattr(work, "LOCK_PATIENCE", 0.05)
    for name in ("lower", "upper", "work"):
        (scratch / name).mkdir()
    os.setxattr(scratch / "upper", CLAIM, other.spell())
    stack = Stack((os.fsencode(scratch / "lower"),), os.fsencode(scratch / "upper"), os.fsencode(scratch / "work"))
    with pytest.raises(NotReady, match=f"in use by another mount, of process {other.pid}"):
        Union.open(stack, UnionOptions())
    os.removexattr(scratch / "upper", CLAIM)
    union = Union.open(stack, UnionOptions())
    assert os.getxattr(scratch / "upper", CLAIM) == own_process().spell()
    union.close(served_elsewhere=True)
    assert os.listxattr(scratch / "upper") == [CLAIM]
    Union.open(stack, UnionOptions()).close()
    assert os.listxattr(scratch / "upper") == []
