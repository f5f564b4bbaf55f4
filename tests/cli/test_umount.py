"""`layerfs umount`: both drivers, busy mounts, and the way it waits."""

import os
import signal
import subprocess

import pytest

from layerfs.errors import NotReady
from layerfs.mounts import removal
from layerfs.mounts.registry import birth
from tests.cli.conftest import Place, make_place
from tests.cli.test_mount import MERGED, is_mounted, read
from tests.host import require
from tests.waiting import PATIENCE, wait_until


@pytest.mark.parametrize("driver", ["fuse", "kernel"])
def test_the_same_upper_can_be_mounted_right_after(place: Place, driver: str) -> None:
    for number in range(5):
        place.mount("--driver", driver)
        (place.mnt / str(number)).touch()
        place.do("umount", "mnt")
        assert not is_mounted(place.mnt)
    assert sorted(path.name for path in place.upper.iterdir()) == list("01234")


@pytest.mark.parametrize("driver", ["fuse", "kernel"])
def test_a_busy_mount_is_left_alone_unless_lazily(place: Place, driver: str) -> None:
    place.mount("--driver", driver)
    with open(place.mnt / "both") as file:
        done = place.run("umount", "mnt")
        assert done.returncode == 1
        assert f"{place.mnt} is in use (hint: " in done.stderr
        assert read(place.mnt) == MERGED
        place.do("umount", "-l", "mnt")
        assert not is_mounted(place.mnt)
        assert file.read() == "top"
        assert place.status().get("health") == ("detached" if driver == "fuse" else None)
    wait_until(lambda: place.status() == {})


@pytest.mark.parametrize("driver", ["fuse", "kernel"])
def test_a_lazy_unmount_writes_back_what_is_open(place: Place, driver: str) -> None:
    """Only the last user's end did, and a crash of the server before that lost it."""
    place.mount("--driver", driver)
    fd = os.open(place.mnt / "new", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"written")
    place.do("umount", "-l", "mnt")
    assert (place.upper / "new").read_bytes() == b"written"
    os.close(fd)
    wait_until(lambda: place.status() == {})


def test_several_mounts_are_unmounted_in_one_go(place: Place) -> None:
    places = [make_place(place.base / name, None) for name in "ab"]
    for each in places:
        each.mount("--driver", "fuse")
    place.do("umount", *(each.mnt for each in places))
    assert not any(is_mounted(each.mnt) for each in places)


def test_of_several_all_are_tried_and_each_failure_is_told(place: Place) -> None:
    places = [make_place(place.base / name, None) for name in "ab"]
    for each in places:
        each.mount("--driver", "fuse")
    done = place.run("umount", places[0].mnt, "absent", places[1].mnt, "/proc")
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert len(told) == 2
    assert "nothing is mounted at" in told[0] and "absent" in told[0]
    assert "/proc is a mount of type proc" in told[1]
    assert not any(is_mounted(each.mnt) for each in places)


def test_a_server_that_does_not_answer_is_named_with_what_to_do(place: Place) -> None:
    place.mount("--driver", "fuse")
    pid = place.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        done = place.run("umount", "mnt")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert done.returncode == 1
    assert f"{place.mnt} is mounted, but its server (process {pid}) does not answer" in done.stderr
    for remedy in (f"kill -CONT {pid}", f"kill -9 {pid}", f"layerfs umount -l {place.mnt}"):
        assert remedy in done.stderr
    place.do("umount", "mnt")


def test_a_symlink_to_a_mountpoint_is_followed(place: Place) -> None:
    place.mount("--driver", "fuse")
    (place.base / "link").symlink_to(place.mnt)
    place.do("umount", "link")
    assert not is_mounted(place.mnt)


def test_a_server_that_does_not_answer_is_unmounted_lazily_without_waiting(place: Place) -> None:
    place.mount("--driver", "fuse")
    pid = place.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        place.do("umount", "-l", "mnt")
        assert not is_mounted(place.mnt)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: birth(pid) == 0)
    assert place.status() == {}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("mnt", "nothing is mounted at"),
        ("absent", "nothing is mounted at"),
        ("/proc", "of type proc, not one of layerfs"),
    ],
)
def test_what_layerfs_did_not_mount_is_left_alone(place: Place, path: str, said: str) -> None:
    done = place.run("umount", path)
    assert done.returncode == 1
    assert said in done.stderr


def test_somebody_elses_mount_is_refused(either: Place) -> None:
    if either.person is None:
        return
    require("root")  # who makes the mount that is not ours
    rooted = make_place(either.base / "rooted", None)
    rooted.mount("--driver", "fuse")
    done = either.run("umount", rooted.mnt)
    assert done.returncode == 1
    assert f"{rooted.mnt} was mounted by root, not by you (hint: as root: layerfs umount" in done.stderr
    assert is_mounted(rooted.mnt)
    rooted.do("umount", "mnt")


def test_what_earlier_mounts_left_in_the_registry_is_cleared_too(place: Place) -> None:
    place.mount("--driver", "kernel")
    subprocess.run(["umount", place.mnt], check=True, timeout=PATIENCE)
    place.mount("--driver", "fuse")
    place.do("umount", "mnt")
    assert place.status() == {}


@pytest.mark.alone  # the kernel gives a detached mount's number to whoever mounts next, and with it the record's name
def test_a_copy_in_another_mount_namespace_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that starts takes copies of all mounts with it; the server then serves those."""
    monkeypatch.setattr(removal, "PATIENCE", 0.2)
    place.mount("--driver", "fuse")
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", "echo; exec sleep 300"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.read(1)
        try:
            with pytest.raises(NotReady, match=f"not in the mount namespace of process {holder.pid}"):
                removal.tear_down(os.fsencode(place.mnt))
            assert place.status()["health"] == "detached"
        finally:
            holder.terminate()
    wait_until(lambda: place.status() == {})
