"""From a request to a mount: what is recorded, what is said, and nothing left of what failed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from layerfs.errors import NotFound, Unsupported
from layerfs.model import Driver, Stack
from layerfs.mounts.launch import launch
from layerfs.mounts.process import Process
from layerfs.spec.attach import AttachOptions
from layerfs.spec.options import MountRequest
from layerfs.sys.mounts import MountFlag
from layerfs.union.options import UnionOptions
from tests.conftest import mounts_below
from tests.host import require
from tests.waiting import PATIENCE

ASKED = """
import os, sys
from layerfs.model import Driver, Stack
from layerfs.mounts import registry
from layerfs.mounts.launch import launch
from layerfs.mounts.process import Process
from layerfs.mounts.removal import tear_down
from layerfs.spec.attach import AttachOptions
from layerfs.spec.options import MountRequest
from layerfs.union.options import UnionOptions
lower, target = map(os.fsencode, sys.argv[1:3])
driver = Driver(sys.argv[3])
launch(MountRequest(Stack((lower,)), target, UnionOptions(), AttachOptions(), driver, sys.argv[4]), Process())
(record,) = [record for record in registry.records() if record.mountpoint == target]
print(record.driver.value, record.why, os.listdir(target))
links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
print([os.readlink(link) for link in links if os.path.lexists(link) and "fuse" in os.readlink(link)])
tear_down(target)
"""


@pytest.mark.parametrize("driver", ["fuse", "kernel"])
@pytest.mark.parametrize("asked", ["", "somebody wants it"])
def test_a_mount_is_recorded_with_who_asked_and_its_device_is_the_servers_alone(
    scratch: Path, driver: str, asked: str
) -> None:
    require("root", "fuse", "kernel overlay")
    for name in ("lower", "lower/entry", "target"):
        (scratch / name).mkdir()
    command = [sys.executable, "-c", ASKED, str(scratch / "lower"), str(scratch / "target"), driver, asked]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    why = asked or f"driver={driver} was asked for"
    assert done.stdout.splitlines() == [f"{driver} {why} [b'entry']", "[]"]


@pytest.mark.parametrize("driver", list(Driver))
def test_nothing_is_left_of_a_mount_that_fails(scratch: Path, driver: Driver) -> None:
    (scratch / "target").mkdir()
    stack = Stack((os.fsencode(scratch / "absent"),))
    request = MountRequest(stack, bytes(scratch / "target"), UnionOptions(), AttachOptions(), driver)
    with pytest.raises(NotFound, match="absent is not there"):
        launch(request, Process())
    assert mounts_below(scratch) == []


def test_strictatime_is_refused_where_it_cannot_be_kept(scratch: Path) -> None:
    """It was taken, and no read changed an atime."""
    for name in ("lower", "target"):
        (scratch / name).mkdir()
    stack = Stack((os.fsencode(scratch / "lower"),))
    attach = AttachOptions(flags=MountFlag.STRICTATIME)
    request = MountRequest(stack, bytes(scratch / "target"), UnionOptions(), attach, Driver.FUSE)
    with pytest.raises(Unsupported, match="strictatime cannot be kept by FUSE"):
        launch(request, Process())
    assert mounts_below(scratch) == []
