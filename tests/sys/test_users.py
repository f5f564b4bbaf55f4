"""Who uses a directory."""

import os
import subprocess
import sys
from pathlib import Path

from layerfs.sys.mounts import unmount
from layerfs.sys.users import is_used
from tests.host import require


def test_layer_of_a_mount_is_used_in_whatever_namespace(scratch: Path) -> None:
    require("root", "kernel overlay")
    places = [scratch / f"snapshots/{number}/fs" for number in (1, 11)]
    for path in (*places, scratch / "target", scratch / "other"):
        path.mkdir(parents=True)
    lowers = f"lowerdir={places[1]}:{scratch}/other"
    script = f"mount -t overlay overlay -o {lowers} {scratch}/target; echo ready; read end"
    command = ["unshare", "-m", "--propagation", "private", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [is_used(os.fsencode(path)) for path in places] == [False, True]
        process.communicate(b"\n")
    assert not is_used(os.fsencode(places[1]))
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", lowers, scratch / "target"], check=True)
    assert is_used(os.fsencode(places[1]))
    unmount(os.fsencode(scratch / "target"))


def test_directory_that_a_process_is_in_or_has_open_is_used(scratch: Path) -> None:
    path = scratch / "a/b/c/fs"
    (path / "inner").mkdir(parents=True)
    assert not is_used(os.fsencode(path))
    fd = os.open(path / "inner", os.O_RDONLY)
    assert is_used(os.fsencode(path))
    os.close(fd)
    waiting = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(waiting, cwd=path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert is_used(os.fsencode(path))
        process.communicate(b"\n")
    assert not is_used(os.fsencode(path))
