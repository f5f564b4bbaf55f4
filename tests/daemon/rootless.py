"""Run in a user and mount namespace by tests/daemon/test_rootless.py: a daemon, and the life of a snapshot with it.

Its arguments are a directory and a snapshotter; it prints what a container would see, as JSON.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from layerfs.model import Mount
from tests.daemon.client import Client, serving
from tests.waiting import wait_until


def perform(answer: Any, target: Path) -> None:
    """Mount what the daemon answers, as containerd's client does."""
    (told,) = answer.mounts
    Mount(told.type, told.source, tuple(told.options), told.target).perform(os.fsencode(target))


def look(target: Path) -> dict[str, list[str]]:
    """The tree at a place: what each directory holds."""
    return {str(Path(base).relative_to(target)): sorted(files) for base, _, files in os.walk(target)}


def life(client: Client, target: Path) -> dict[str, Any]:
    """Two layers, the second with a deletion and an opaque directory; a container on top that writes."""
    perform(client.Prepare(key="one"), target)
    for name in ("gone", "kept", "opaque"):
        (target / name).mkdir()
        (target / name / "file").write_text(name)
    os.chown(target / "kept/file", 7, 7)
    unmount(target)
    client.Commit(name="base", key="one")
    perform(client.Prepare(key="two", parent="base"), target)
    shutil.rmtree(target / "gone")
    shutil.rmtree(target / "opaque")
    (target / "opaque").mkdir()
    unmount(target)
    client.Commit(name="top", key="two")
    perform(client.Prepare(key="container", parent="top"), target)
    (target / "kept/new").write_text("new")
    found = {"tree": look(target), "owner": (target / "kept/file").stat().st_uid}
    unmount(target)
    perform(client.View(key="view", parent="top"), target)
    found["view"] = look(target)
    unmount(target)
    for key in ("view", "container", "top", "base"):
        client.Remove(key=key)
    client.Cleanup()
    return found | {"left": client.names()}


def unmount(target: Path) -> None:
    """Unmount as containerd does, which tries again where that is in use.

    The server of what was mounted there before looks, at its end, whether it leaves a dead mount; on a busy machine
    that may be ours which it looks at by now.
    """
    wait_until(lambda: subprocess.run(["umount", target], check=False, stderr=subprocess.DEVNULL).returncode == 0)


def main(place: Path, snapshotter: str) -> None:
    target = place / "target"
    target.mkdir()
    with serving(place) as daemon, Client(daemon.address, snapshotter) as client:
        found = life(client, target)
        assert daemon.stop() == 0
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
