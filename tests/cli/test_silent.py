"""Every verb that is given a path on a filesystem that does not answer says so, and ends."""

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

from tests.host import BIN
from tests.silent import a_silent_mount
from tests.waiting import PATIENCE

MOUNT = ("mount", "--driver=fuse")
VERBS = {
    "a layer": (*MOUNT, "mnt/dir", "local", "target"),
    "a layer, by any driver": ("mount", "local", "mnt/dir", "target"),
    "an image": (*MOUNT, "mnt/one.xar", "target"),
    "the upper": (*MOUNT, "local", "target", "--upper", "mnt/dir", "--work", "local"),
    "the work directory": (*MOUNT, "local", "target", "--upper", "upper", "--work", "mnt/dir"),
    "the mountpoint": (*MOUNT, "local", "mnt/dir"),
    "a layer among options": ("mount", "-o", "lowerdir=mnt/dir:local", "target"),
    "a layer of run": ("run", "mnt/dir", "local", "--", "true"),
    "the upper of run": ("run", "local", "--upper", "mnt/dir", "--", "true"),
    "a XAR to look at": ("xar", "info", "mnt/one.xar"),
    "a XAR to verify": ("xar", "verify", "one.xar", "mnt/one.xar"),
    "a XAR to mount": ("xar", "mount", "mnt/one.xar"),
    "a XAR to run": ("xar", "exec", "mnt/one.xar"),
    "a tree to pack": ("xar", "build", "mnt/dir", "-o", "new.xar"),
    "a cache": ("cache", "ls"),
}  # fmt: skip


def test_verbs_that_are_given_a_silent_path_say_so_and_end(scratch: Path) -> None:
    """They hung, beyond the reach of ^C and SIGKILL once the server had read their question."""
    with a_silent_mount(scratch) as silent, ExitStack() as ending:
        (scratch / "target").mkdir()
        started = {}
        for name, verb in VERBS.items():
            environment = {**os.environ, "LAYERFS_CACHE": str(silent / "dir") if name == "a cache" else ""}
            command = [str(BIN / "layerfs"), *verb]
            started[name] = ending.enter_context(
                subprocess.Popen(
                    command, cwd=scratch, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
                )
            )
        for name, process in started.items():
            said = process.communicate(timeout=PATIENCE)[1].decode()
            assert process.returncode == 1, name
            assert f"{silent}" in said or "mnt/" in said, name
            assert "that does not answer (hint: see to its server, or layerfs umount -l" in said, name
        assert not os.listdir(scratch / "target")
