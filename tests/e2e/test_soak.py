"""Many containers with kills of the daemon among them: nothing is left behind.

LAYERFS_SOAK says how many containers, over all four drivers then; 500 take some minutes for each.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.containerd import Containerd, a_containerd, archive, on_btrfs
from tests.e2e.test_containerd import remove_all
from tests.images import loops_below
from tests.waiting import wait_until

NEEDS = ("root", "fuse", "containerd", "ctr", "runc")
COUNT = int(os.environ.get("LAYERFS_SOAK", "40"))
KILLS = 3
WORKERS = 4


@pytest.fixture(params=["overlay", "fuse", *(["xar", "btrfs"] if "LAYERFS_SOAK" in os.environ else [])])
def containerd(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Containerd]:
    """A containerd over a driver, which has the image."""
    if request.param == "btrfs":
        (scratch / "store").mkdir(mode=0o700)
        on_btrfs(scratch)
    with a_containerd(scratch, f"layerfs-{request.param}") as made:
        made.ctr("images", "import", "--snapshotter", made.snapshotter, archive(scratch / "image.tar"))
        yield made


def processes(place: Path) -> list[str]:
    """The command lines of processes that name something below a directory: shims, FUSE servers, packers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if f"{place}/" in words:
                found.append(words)
    return sorted(found)


def held(place: Path) -> dict[str, list[str]]:
    """What a host has because of a directory: processes, mounts, loop devices."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{place}/" in line]
    return {
        "processes": processes(place),
        "mounts": mounts,
        "loop devices": [str(loop) for loop in loops_below(place)],
    }


def work(containerd: Containerd, number: int) -> None:
    """Run containers until one was well: those that the daemon's death hits may fail, and are removed with the rest."""
    script = f"echo {number} >/mine; rm -r /l3; mv /d/a /d/b; cat /mine /d/b"
    tries = (f"s{number}-{count}" for count in range(1000))

    def once() -> bool:
        how = ("--rm", "--snapshotter", containerd.snapshotter)
        done = containerd.attempt("run", *how, "localhost/box:1", containerd.id(next(tries)), "/bin/sh", "-euc", script)
        return done.returncode == 0

    wait_until(once)


def test_a_soak_leaves_nothing_behind(containerd: Containerd) -> None:
    wait_until(lambda: not any("/tmpmounts/" in words for words in processes(containerd.place)), "the unpacks' servers")
    before = held(containerd.place)
    containerd.run("lasting", "/bin/sleep", "10000", detached=True)
    containerd.exec("lasting", "echo here >/mine")
    with ThreadPoolExecutor(WORKERS) as pool:
        share = max(COUNT // (KILLS + 1), 1)
        for start in range(0, COUNT, share):
            batch = [pool.submit(work, containerd, number) for number in range(start, min(start + share, COUNT))]
            if start // share < KILLS:
                batch[0].result()
                containerd.daemon.kill()
                containerd.daemon.start()
            for each in batch:
                each.result()
            assert containerd.exec("lasting", "cat /mine") == "here\n"
    remove_all(containerd)
    wait_until(lambda: held(containerd.place) == before, lambda: f"{before} instead of {held(containerd.place)}")
