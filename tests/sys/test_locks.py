"""Lock files are their owner's alone: whoever may only read keeps nobody from anything."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from layerfs.sys import locks
from layerfs.sys.locks import (
    NO_LOCKS,
    held_alone,
    held_by_many,
    in_use,
    lock_file,
    share_bytes,
    try_lock,
    unused,
    use,
    use_beside,
)
from tests.host import Person, require


@pytest.mark.parametrize("mask", [0o022, 0o777], ids=oct)
def test_a_lock_file_can_be_opened_again_by_its_owner_alone(scratch: Path, mask: int) -> None:
    """Under umask 0777 only root could open it a second time."""
    path = os.fsencode(scratch / "lock")
    old = os.umask(mask)
    try:
        os.close(lock_file(path))
    finally:
        os.umask(old)
    assert os.stat(path).st_mode & 0o7777 == 0o600
    held = lock_file(path)
    with pytest.raises(BlockingIOError):
        lock_file(path, wait=False)
    os.close(held)


def test_what_is_used_is_not_unused_until_the_last_user_lets_go(scratch: Path) -> None:
    directory = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    assert use(directory) == -1, "nobody has asked for it"
    first = in_use(directory)
    (scratch / "link").symlink_to(scratch / "file")
    second = use_beside(os.fsencode(scratch / "link"))
    assert second >= 0
    os.close(first)
    assert unused(directory) is None
    os.close(second)
    last = unused(directory)
    assert last is not None
    assert use(directory) == -1, "it is being removed"
    os.close(last)
    os.close(directory)


def test_a_stranger_s_lock_file_counts_for_nothing(scratch: Path) -> None:
    require("root")
    path = scratch / os.fsdecode(locks.IN_USE)
    path.touch()
    os.chown(path, 4711, 4711)
    assert use_beside(os.fsencode(scratch / "file")) == -1


def test_another_user_cannot_hold_it(scratch: Path, person: Person) -> None:
    directory = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    os.close(in_use(directory))
    if os.geteuid() == 0:
        code = "import sys; from layerfs.sys.locks import use_beside; print(use_beside(sys.argv[1].encode()))"
        assert person.run([sys.executable, "-c", code, str(scratch / "file")], cwd="/").stdout == "-1\n"
    fd = unused(directory)
    assert fd is not None
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)
    os.close(directory)


def test_a_lock_excludes_and_goes_with_its_descriptor(tmp_path: Path) -> None:
    one, two, three = (os.open(tmp_path, os.O_RDONLY) for _ in range(3))
    assert try_lock(one, shared=True)
    assert try_lock(two, shared=True)
    assert not try_lock(three)
    os.close(one)
    os.close(two)
    assert try_lock(three)
    os.close(three)


@pytest.mark.parametrize("number", NO_LOCKS)
def test_a_filesystem_without_locks_keeps_nobody(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_fd: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert try_lock(0)


def test_other_errors_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_fd: int, _how: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output"):
        try_lock(0)


def test_shared_bytes_keep_who_wants_them_alone_away_whatever_else_is_closed(scratch: Path) -> None:
    """A POSIX lock would be gone as soon as the file is closed once more."""
    path = scratch / "file"
    path.touch()
    first, second = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    share_bytes(first, 7, 10)
    share_bytes(second, 7, 10)
    os.close(second)
    asked = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 7)"
    assert b"BlockingIOError" in subprocess.run([sys.executable, "-c", asked, path], capture_output=True).stderr
    os.close(first)
    subprocess.run([sys.executable, "-c", asked, path], check=True)


def test_many_hold_a_lock_file_or_one_does(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "lock")
    with held_by_many(path), held_by_many(path), held_alone(path) as alone:
        assert not alone
    with held_alone(path) as alone, held_alone(path) as other:
        assert alone
        assert not other
