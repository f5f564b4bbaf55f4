"""Mounting from a program with threads: through a fresh interpreter, with a request, or with a device to serve."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from layerfs.errors import LayerfsError
from layerfs.fuse.mount import attach
from layerfs.model import Driver, Stack
from layerfs.mounts import registry
from layerfs.mounts.launch_exec import decode, encode, launch_by_exec
from layerfs.mounts.process import Process
from layerfs.mounts.removal import tear_down
from layerfs.spec.attach import AttachOptions
from layerfs.spec.options import MountRequest
from layerfs.sys.mounts import MountFlag
from layerfs.union.options import UnionOptions
from tests.conftest import mounts_below
from tests.host import require
from tests.mounts.test_starter import children


@pytest.fixture
def place(scratch: Path) -> Iterator[Path]:
    require("root")
    require("fuse")
    for name in ("lower", "upper", "work", "merged"):
        (scratch / name).mkdir()
    (scratch / "lower" / "file").write_text("below")
    yield scratch
    assert mounts_below(scratch) == []


def wanted(place: Path, driver: Driver = Driver.FUSE, lower: str = "lower") -> MountRequest:
    lowers, upper, work, merged = (os.fsencode(place / name) for name in (lower, "upper", "work", "merged"))
    return MountRequest(Stack((lowers,), upper, work), merged, UnionOptions(), AttachOptions(), driver)


def test_a_request_survives_the_way() -> None:
    request = MountRequest(
        Stack((b"/a,b\xff", b"/c:d"), b"/u", b"/w"),
        b"/m",
        UnionOptions(timeout=0.25, volatile=True),
        AttachOptions(MountFlag.NODEV),
        Driver.KERNEL,
        "the daemon wants it so",
    )
    process = Process(debug=True, log=b"/log")
    assert decode(encode(request, process)) == (request, process)


@pytest.mark.parametrize("driver", [Driver.FUSE, Driver.KERNEL])
def test_a_thread_mounts_and_the_mount_outlives_it(place: Path, driver: Driver) -> None:
    if driver is Driver.KERNEL:
        require("kernel overlay")
    before = children()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(launch_by_exec, wanted(place, driver), Process()).result()
    assert (place / "merged" / "file").read_text() == "below"
    (place / "merged" / "new").write_text("above")
    tear_down(os.fsencode(place / "merged"))
    assert (place / "upper" / "new").read_text() == "above"
    assert children() <= before, "it was not waited for"


def test_many_threads_mount_at_once(place: Path) -> None:
    barrier = threading.Barrier(4)

    def mount(number: int) -> bytes:
        target = place / f"merged{number}"
        target.mkdir()
        request = MountRequest(
            Stack((os.fsencode(place / "lower"),)),
            os.fsencode(target),
            UnionOptions(),
            AttachOptions(MountFlag.RDONLY),
            Driver.FUSE,
        )
        barrier.wait()
        launch_by_exec(request, Process())
        return request.mountpoint

    with ThreadPoolExecutor(4) as pool:
        targets = list(pool.map(mount, range(4)))
    for target in targets:
        assert os.listdir(target) == [b"file"]
        tear_down(target)


def test_what_goes_wrong_there_is_raised_here(place: Path) -> None:
    with pytest.raises(LayerfsError, match="nowhere is not there") as caught:
        launch_by_exec(wanted(place, lower="nowhere"), Process())
    assert caught.value.hint == "check the path"


def test_a_device_that_is_mounted_already_is_served(place: Path) -> None:
    request = wanted(place)
    device = attach(request.mountpoint, request.attach)
    try:
        launch_by_exec(request, Process(), device)
    finally:
        os.close(device)
    assert (place / "merged" / "file").read_text() == "below"
    (record,) = [record for record in registry.records() if record.mountpoint == request.mountpoint]
    assert record.why == "its device was given to be served"
    tear_down(request.mountpoint)
