"""Loop devices: images are mounted without a place, by many at once, and every device is free again afterwards."""

import errno
import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from layerfs.sys import fsmount, loop
from layerfs.sys.loop import device_of, mount_image
from layerfs.sys.mountprobe import apart, enter_as_root
from tests.conftest import mounts_below
from tests.host import PROJECT, require
from tests.images import loops_below, make_image
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.mounts

OFFSET = 4096


@pytest.fixture
def image(scratch: Path) -> Iterator[Path]:
    """An image with one file in it; afterwards no device may show it any more."""
    require("root", "mksquashfs")
    (scratch / "tree").mkdir()
    (scratch / "tree/file").write_text("content")
    yield make_image(scratch / "image", scratch / "tree")
    wait_until(lambda: not loops_below(scratch), "loop devices to be freed")


def look(mount: int) -> str:
    """Read the image's file through the descriptor of its mount, and close that."""
    try:
        return Path(f"/proc/self/fd/{mount}/file").read_text()
    finally:
        os.close(mount)


def test_image_is_mounted_nowhere_and_read_only(image: Path) -> None:
    with open("/proc/self/mountinfo") as table:
        before = table.read().count("squashfs")
    mount = mount_image(os.fsencode(image), 0)
    try:
        assert os.statvfs(mount).f_flag & os.ST_RDONLY
        with open("/proc/self/mountinfo") as table:
            assert table.read().count("squashfs") <= before
        (device,) = loops_below(image)
        says = {name: (device / name).read_text().strip() for name in ("autoclear", "offset", "sizelimit", "dio")}
        assert says == {"autoclear": "1", "offset": "0", "sizelimit": "0", "dio": "1"}
        assert (device.parent / "ro").read_text() == "1\n"
    finally:
        assert look(mount) == "content"


def test_image_begins_where_the_header_ends(image: Path, scratch: Path) -> None:
    package = scratch / "package"
    package.write_bytes(b"\n" * OFFSET + image.read_bytes())
    mount = mount_image(os.fsencode(package), OFFSET)
    (device,) = loops_below(package)
    assert (device / "offset").read_text() == f"{OFFSET}\n"
    assert look(mount) == "content"


def test_offset_that_direct_io_cannot_have_is_read_through_the_cache(image: Path, scratch: Path) -> None:
    package = scratch / "package"
    package.write_bytes(b"\n" * 513 + image.read_bytes() + b"\0" * 512)
    assert look(mount_image(os.fsencode(package), 513)) == "content"


def test_file_on_a_filesystem_without_direct_io_is_mounted(image: Path) -> None:
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as copy:
        copy.write(image.read_bytes())
        copy.flush()
        assert look(mount_image(os.fsencode(copy.name), 0)) == "content"


@pytest.mark.parametrize("content", [b"", b"no image", b"hsqs" + b"\xff" * 8192])
def test_what_is_no_image_leaves_no_device(image: Path, scratch: Path, content: bytes) -> None:
    wrong = scratch / "wrong"
    wrong.write_bytes(content)
    with pytest.raises(OSError) as caught:
        mount_image(os.fsencode(wrong), 0)
    assert caught.value.errno in (errno.EINVAL, errno.EIO)
    wait_until(lambda: not loops_below(scratch), "the device to be freed")


def test_absent_file_is_named(image: Path) -> None:
    absent = os.fsencode(image) + b".absent"
    with pytest.raises(FileNotFoundError) as caught:
        mount_image(absent, 0)
    assert caught.value.filename == absent


def test_absent_loop_devices_are_named(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CONTROL", b"/dev/no-loop-control")
    with pytest.raises(FileNotFoundError) as caught:
        mount_image(os.fsencode(image), 0)
    assert caught.value.filename == b"/dev/no-loop-control"


def test_thirty_two_threads_at_once_get_a_device_each(image: Path) -> None:
    mounts: list[int] = []
    threads = [Thread(target=lambda: mounts.append(mount_image(os.fsencode(image), 0))) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loops_below(image)) == len(mounts) == 32
    assert [look(mount) for mount in mounts] == ["content"] * 32


AT_ONCE = """
import os, sys
from layerfs.sys.loop import mount_image
for _ in range(10):
    mounts = [mount_image(os.fsencode(sys.argv[1]), 0) for _ in range(3)]
    for mount in mounts:
        assert open(f"/proc/self/fd/{mount}/file").read() == "content"
        os.close(mount)
"""


def test_processes_at_once_do_not_take_each_others_devices(image: Path) -> None:
    command = [sys.executable, "-c", AT_ONCE, str(image)]
    running = [subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE) for _ in range(6)]
    assert [(process.communicate(timeout=PATIENCE)[1], process.returncode) for process in running] == [(b"", 0)] * 6


def test_device_that_another_took_first_is_passed_over(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[int] = []
    free = loop.free_device

    def offer(control: int) -> int:
        offered.append(taken if not offered else free(control))
        return offered[-1]

    with device_of(os.fsencode(image)) as name:
        taken = int(name.removeprefix(b"/dev/loop"))
        monkeypatch.setattr(loop, "free_device", offer)
        assert look(mount_image(os.fsencode(image), 0)) == "content"
    assert len(offered) >= 2  # somebody else on the host may take one, too


def older_kernel(*refused: int) -> Callable[..., object]:
    """An ioctl(2) that does not know some requests."""

    def ioctl(fd: int, request: int, argument: int | bytes = 0) -> object:
        if request in refused:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return fcntl.ioctl(fd, request, argument)

    return ioctl


@pytest.mark.parametrize("refused", [(loop.CONFIGURE,), (loop.CONFIGURE, loop.SET_DIRECT_IO)])
def test_older_kernels_are_asked_in_steps(
    image: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, refused: tuple[int, ...]
) -> None:
    package = scratch / "package"
    package.write_bytes(b"\n" * OFFSET + image.read_bytes())
    monkeypatch.setattr(loop, "ioctl", older_kernel(*refused))
    mount = mount_image(os.fsencode(package), OFFSET)
    (device,) = loops_below(package)
    assert (device / "autoclear").read_text() == "1\n"
    assert (device / "dio").read_text() == f"{int(loop.SET_DIRECT_IO not in refused)}\n"
    assert look(mount) == "content"


def test_step_that_fails_gives_the_device_back(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "ioctl", older_kernel(loop.CONFIGURE, loop.SET_STATUS64))
    with pytest.raises(OSError, match="Invalid argument"):
        mount_image(os.fsencode(image), 0)


def test_process_that_is_killed_half_way_leaves_no_device(image: Path) -> None:
    """The device was shown and not yet mounted: nothing but autoclear can free it."""
    pid = os.fork()
    if pid == 0:
        with device_of(os.fsencode(image)):
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_node_that_nobody_made_is_made(image: Path, scratch: Path) -> None:
    """As in a container: a /dev of its own, and no udev."""

    def mount_there() -> str:
        control = os.stat(loop.CONTROL).st_rdev
        enter_as_root()
        content = image.read_bytes()
        fsmount.mount_new(b"tmpfs", b"/dev")
        os.mknod(loop.CONTROL, stat.S_IFCHR | 0o600, control)
        (scratch / "image").write_bytes(content)
        text = look(mount_image(os.fsencode(image), 0))
        made = set(os.listdir("/dev")) - {"loop-control"}  # one for each device that somebody else was quicker to take
        return f"{text} {bool(made) and all(re.fullmatch('loop[0-9]+', name) for name in made)}"

    assert apart(mount_there) == "content True"
    assert mounts_below(scratch) == []
