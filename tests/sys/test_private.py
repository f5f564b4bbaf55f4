"""Directories of our own where anybody may have been before us: squatted, mounted over, linked away."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.sys import private
from layerfs.sys.mounts import mount_raw, unmount
from layerfs.sys.private import existing_runtime_directory, own_directory, runtime_directories, runtime_directory
from layerfs.sys.trust import Untrusted
from tests.host import require
from tests.waiting import PATIENCE

STRANGER = 4711


@pytest.fixture
def shared(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory as /tmp is, the only one in which a runtime directory can be."""
    path = scratch / "tmp"
    path.mkdir()
    path.chmod(0o1777)
    monkeypatch.setattr(private, "SHARED", bytes(path))
    monkeypatch.setattr(private, "SYSTEM", bytes(scratch / "absent"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return path


def stranger(path: Path) -> None:
    require("root")
    path.mkdir()
    os.chown(path, STRANGER, STRANGER)


def linked(path: Path) -> None:
    (path.parent / "elsewhere").mkdir(mode=0o700)
    path.symlink_to("elsewhere")


def open_to_others(path: Path) -> None:
    path.mkdir()
    path.chmod(0o707)


def mounted_over(path: Path) -> None:
    """What is mounted there says of itself that it is ours alone."""
    require("root")
    path.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", path], check=True)


def a_file(path: Path) -> None:
    path.touch()


SQUATS = [stranger, linked, open_to_others, mounted_over, a_file]


@pytest.mark.mounts
@pytest.mark.parametrize("squat", SQUATS)
def test_what_is_not_ours_alone_is_refused(squat: Callable[[Path], None], shared: Path) -> None:
    squat(shared / "name")
    before = sorted(os.listdir(shared))
    for make in (False, True):
        with pytest.raises(Untrusted) as error:
            own_directory(bytes(shared), b"name", make=make)
        assert error.value.filename == bytes(shared / "name")
    assert sorted(os.listdir(shared)) == before


@pytest.mark.mounts
@pytest.mark.parametrize("squat", SQUATS)
def test_a_squatted_name_denies_nothing(squat: Callable[[Path], None], shared: Path) -> None:
    squat(shared / os.fsdecode(private._own_name()))
    found = runtime_directory()
    assert os.path.dirname(found) == bytes(shared)
    assert os.stat(found).st_mode & 0o7777 == 0o700
    assert runtime_directory() == found  # and it is found again
    assert runtime_directories() == [found]


LOOKING = """
import sys
from layerfs.sys import private
private.SHARED, private.SYSTEM = sys.argv[1].encode(), b"/absent"
print(private.runtime_directories() == [], private.runtime_directory() != sys.argv[2].encode())
"""


@pytest.mark.mounts
def test_who_serves_what_is_mounted_at_our_name_is_not_asked(shared: Path) -> None:
    """It may never answer: root would hang in what a stranger has mounted."""
    require("root")
    require("fuse")
    ours = shared / os.fsdecode(private._own_name())
    ours.mkdir(mode=0o700)
    device = os.open("/dev/fuse", os.O_RDWR)
    words = f"fd={device},rootmode=40000,user_id={STRANGER},group_id={STRANGER},allow_other"
    mount_raw(b"fuse", b"silent", bytes(ours), 0, words.encode())
    try:
        command = [sys.executable, "-c", LOOKING, str(shared), str(ours)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    finally:
        os.close(device)
        unmount(bytes(ours), lazy=True)
    assert done.stdout == "True True\n"


def test_spare_names_of_strangers_are_passed_over(shared: Path) -> None:
    stranger(shared / os.fsdecode(private._own_name()))
    stranger(shared / os.fsdecode(private._own_name() + b".0"))
    found = runtime_directory()
    assert runtime_directories() == [found]


def test_our_name_is_taken_where_it_is_free(shared: Path) -> None:
    assert runtime_directories() == []
    with pytest.raises(FileNotFoundError):
        existing_runtime_directory()
    found = runtime_directory()
    assert existing_runtime_directory() == found
    assert found == bytes(shared / os.fsdecode(private._own_name()))
    assert runtime_directories() == [found]


def test_nothing_is_made_below_a_step_of_a_stranger(shared: Path) -> None:
    stranger(shared / "theirs")
    (shared / "theirs" / "below").mkdir()
    with pytest.raises(Untrusted):
        own_directory(bytes(shared / "theirs" / "below"), b"name", make=True)
    assert os.listdir(shared / "theirs" / "below") == []


@pytest.mark.parametrize("mask", [0o177, 0o777], ids=oct)
def test_the_callers_umask_shuts_nobody_out(shared: Path, mask: int) -> None:
    """A directory that was made under umask 0177 could not be entered, then and ever after."""
    old = os.umask(mask)
    try:
        found = own_directory(bytes(shared), b"name", make=True)
    finally:
        os.umask(old)
    assert os.stat(found).st_mode & 0o7777 == 0o700
    os.chmod(found, 0)  # as an earlier version left it
    assert own_directory(bytes(shared), b"name", make=True) == found
    assert os.stat(found).st_mode & 0o7777 == 0o700


def test_what_was_ours_is_looked_at_again(shared: Path) -> None:
    """It is found again without a walk as long as it is the same, and only then."""
    found = own_directory(bytes(shared), b"name", make=True)
    assert own_directory(bytes(shared), b"name", make=True) == found
    os.rmdir(found)
    with pytest.raises(FileNotFoundError):
        own_directory(bytes(shared), b"name", make=False)
    linked(shared / "name")
    for make in (False, True):
        with pytest.raises(Untrusted):
            own_directory(bytes(shared), b"name", make=make)
    (shared / "name").unlink()
    assert own_directory(bytes(shared), b"name", make=True) == found
    (shared / "name").chmod(0o777)
    with pytest.raises(Untrusted):
        own_directory(bytes(shared), b"name", make=False)
