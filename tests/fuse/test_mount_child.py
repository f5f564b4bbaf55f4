"""Children that ask a server's own mount: without its descriptors, and their failures are errors here."""

import errno
import os
import time
from pathlib import Path

import pytest

from layerfs.fuse import mount_child


def test_a_child_holds_no_descriptor_of_the_server(tmp_path: Path) -> None:
    told, tell = os.pipe()
    (tmp_path / "seen").touch()
    seen = os.fsencode(tmp_path / "seen")

    def look() -> int:
        with open(seen, "w") as file:
            file.write(" ".join(os.listdir("/proc/self/fd")))
        return mount_child.GONE

    assert mount_child.result(mount_child.ask(look)) == mount_child.GONE
    os.close(told)
    os.close(tell)
    assert set((tmp_path / "seen").read_text().split()) <= {"0", "1", "2", "3", "4"}  # the file, and the listing


def test_a_child_keeps_what_it_is_told_to_keep() -> None:
    told, tell = os.pipe()
    other, unused = os.pipe()

    def look() -> int:
        os.write(tell, b"x")
        for fd in (other, unused):
            try:
                os.fstat(fd)
                return mount_child.DETACHED
            except OSError:
                pass
        return mount_child.GONE

    assert mount_child.result(mount_child.ask(look, {told, tell})) == mount_child.GONE
    assert os.read(told, 2) == b"x"
    for fd in (told, tell, other, unused):
        os.close(fd)


def test_what_a_child_says_and_what_ends_it_is_heard() -> None:
    assert mount_child.result(mount_child.ask(lambda: mount_child.DETACHED)) == mount_child.DETACHED

    def fail() -> int:
        raise PermissionError(errno.EPERM, "no")

    with pytest.raises(PermissionError):
        mount_child.result(mount_child.ask(fail))
    with pytest.raises(OSError):
        mount_child.result(mount_child.ask(lambda: 1 // 0))


def test_a_child_that_is_killed_is_an_error() -> None:
    child = mount_child.ask(lambda: time.sleep(60) or 0)  # type: ignore[func-returns-value]
    os.kill(child, 9)
    with pytest.raises(InterruptedError):
        mount_child.result(child)


def test_what_is_no_mount_is_not_cleared(tmp_path: Path) -> None:
    assert not mount_child.clear_dead_mount(os.fsencode(tmp_path))
    assert not mount_child.clear_dead_mount(os.fsencode(tmp_path / "gone"))
