"""Whose mounts are unmounted, and what a path means."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, NotFound, NotReady, WrongUsage
from layerfs.fuse.config import SYNCS
from layerfs.mounts import registry, removal
from layerfs.mounts.removal import locate, tear_down
from layerfs.sys.mounts import MountInfo


def mount(kind: bytes, source: bytes = b"x", *words: bytes) -> MountInfo:
    return MountInfo(1, 1, (0, 1), b"/", b"/mnt", (b"rw",), (), kind, source, words)


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (mount(b"tmpfs"), "of type tmpfs, not one of layerfs"),
        (mount(b"overlay", b"overlay"), "of type overlay, not one of layerfs"),
        (mount(b"fuse.layerfs", b"layerfs", b"rw", b"user_id=0"), "was mounted by root, not by you"),
        (mount(b"overlay", b"layerfs"), "was mounted by root, not by you"),
        (mount(b"fuse.layerfs", b"layerfs", b"user_id=4711"), "somebody (uid 4711), not by you"),
    ],
)
def test_what_is_not_ours_is_said_to_be_somebody_elses(
    info: MountInfo, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InvalidArgument) as error:
        removal._refuse_others(info)
    assert said in error.value.message
    assert error.value.hint


@pytest.mark.parametrize("info", [mount(b"fuse.layerfs", b"x", b"user_id=1000"), mount(b"overlay", b"layerfs")])
def test_root_may_unmount_what_is_of_layerfs(info: MountInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    removal._refuse_others(info)


def test_one_s_own_mount_without_a_record_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    removal._refuse_others(mount(b"fuse.layerfs", b"x", b"user_id=1000"))


def test_a_path_means_the_mount_at_its_end_whatever_it_is_called(scratch: Path) -> None:
    (scratch / "link").symlink_to("/proc")
    for path in (b"/proc", b"/proc/", b"//proc/.", bytes(scratch / "link")):
        mountpoint, info = locate(path)
        assert mountpoint == b"/proc"
        assert info is not None and info.type == b"proc"
    assert locate(bytes(scratch)) == (bytes(scratch), None)


def test_where_nothing_is_mounted_nothing_is_unmounted(scratch: Path) -> None:
    with pytest.raises(NotFound, match="nothing is mounted at"):
        tear_down(bytes(scratch))


def test_another_filesystem_with_the_number_of_a_device_holds_no_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose mount had got the number was named as one that keeps the unmounted one."""
    ours, theirs = mount(b"fuse.layerfs", b"x", b"user_id=0"), mount(b"tmpfs", b"x", b"rw")
    table = [theirs]
    monkeypatch.setattr(removal, "mountinfo", lambda pid=0: table)
    monkeypatch.setattr(registry, "namespace", lambda: 0)  # every process is in another one
    assert removal._holder(ours) is None
    table[0] = ours
    assert removal._holder(ours)
    monkeypatch.undo()
    monkeypatch.setattr(removal, "mountinfo", lambda pid=0: [ours])
    assert removal._holder(ours) != os.getpid()  # it is in our own mount namespace


def test_an_empty_path_is_not_the_working_directory() -> None:
    """`layerfs umount "$UNSET"` unmounted what the caller stood in."""
    with pytest.raises(WrongUsage, match="a path is empty"):
        locate(b"")


@pytest.fixture
def leaving(monkeypatch: pytest.MonkeyPatch) -> "Iterator[subprocess.Popen[str]]":
    """What stands for a server whose mount is gone; it ends with its stdin, and bears the name that it reads there."""
    for name in ("PATIENCE", "LEAVING"):
        monkeypatch.setattr(removal, name, 0.02)
    command = ["sh", "-c", "read name; echo $name >/proc/$$/comm; echo; read end"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


def named(process: "subprocess.Popen[str]", name: str) -> int:
    """Give it a name, and return its pidfd."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{name}\n")
    process.stdin.flush()
    process.stdout.readline()
    return os.pidfd_open(process.pid)


def test_a_server_that_brings_to_disk_is_waited_for_as_long_as_that_takes(
    leaving: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy disk umount gave up after a minute, and said only that the server still runs."""
    fd, seen, look = named(leaving, os.fsdecode(SYNCS)), list[bool](), removal._brings_to_disk

    def looks(pid: int) -> bool:
        seen.append(look(pid))
        if len(seen) == 3:
            assert leaving.stdin is not None
            leaving.stdin.close()
        return seen[0]

    monkeypatch.setattr(removal, "_brings_to_disk", looks)
    removal._wait(fd, leaving.pid, mount(b"fuse.layerfs"))
    os.close(fd)
    assert seen[:3] == [True, True, True]


def test_a_server_that_does_nothing_known_is_told_of(leaving: "subprocess.Popen[str]") -> None:
    fd = named(leaving, "layerfs")
    with pytest.raises(NotReady, match="its server still runs"):
        removal._wait(fd, leaving.pid, mount(b"fuse.layerfs"))
    os.close(fd)
