"""A committed snapshot outlasts a power cut, over every driver; what was not committed is whole or not there."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.snapshots.library import Store, open_store
from layerfs.snapshots.maintenance import check
from layerfs.snapshots.snapshotter import Snapshotter
from tests.contract.subjects import THIRD_PARTY, is_packing
from tests.host import BIN, require
from tests.powercut.disk import Cut, Disk
from tests.waiting import wait_until

ROUNDS = 4
CUTS = 12  # guessed so that each test takes 10 s
SIZE = 20_000  # bytes of each layer's file: some pages
MakeDisk = Callable[[str], Disk]
# Not ext4 without a journal: where a file that was synced grows, ext4 may write the inode that points at a new block of
# its extents before that block; then all of the file is gone, and no program can help.
SUBJECTS = [
    ("overlay", "ext4"),
    ("fuse", "xfs"),
    ("xar", "ext4"),
    ("copying", "ext2"),
    ("btrfs", "btrfs"),
]


def content(number: int) -> str:
    return f"{number}." * (SIZE // len(f"{number}."))


def live(disk: Disk, snapshots: Snapshotter) -> None:
    """Commit a chain of layers, remove some, and say when each is done."""
    for number in range(ROUNDS):
        snapshots.prepare("key", f"name{number - 1}" if number else "")
        Path(os.fsdecode(snapshots.layer("key").path), f"file{number}").write_text(content(number))
        with disk.promise("commit", number):
            snapshots.commit(f"name{number}", "key")
        snapshots.prepare(f"active{number}", f"name{number}")
        snapshots.prepare(f"gone{number}-key")
        snapshots.commit(f"gone{number}", f"gone{number}-key")
        with disk.promise("remove", number):
            snapshots.remove(f"gone{number}")
            snapshots.cleanup()


def own_file(snapshots: Snapshotter, number: int, scratch: Path) -> str:
    """What the layer of a round holds, wherever the driver has it."""
    path = Path(os.fsdecode(snapshots.layer(f"name{number}").path))
    if path.is_file():
        target = scratch / f"extracted-{os.urandom(4).hex()}"
        subprocess.run([BIN / "layerfs", "xar", "extract", path, "--to", target], check=True, capture_output=True)
        path = target
    return (path / f"file{number}").read_text()


def inspect(cut: Cut, name: str, scratch: Path) -> None:
    """Open the store as the cut left it, and look at everything."""
    if not (cut.root / "store/ledger.db").exists():
        assert cut.promised == ()
        return
    with open_store(cut.root / "store") as store:
        snapshots = store.snapshotter(name)
        wait_until(lambda: not is_packing(cut.root))
        there = {info.name: info for info in snapshots.walk()}
        promised = {number for what, number in cut.promised if what == "commit"}
        assert {f"name{number}" for number in promised} <= there.keys()
        for number in range(ROUNDS):
            if f"name{number}" in there:
                assert own_file(snapshots, number, scratch) == content(number), f"layer {number}"
        for info in there.values():
            if info.kind.word == "active":
                assert snapshots.mounts(info.name)
        assert check(store, repair=False) == []
        go_on(store, snapshots)


def go_on(store: Store, snapshots: Snapshotter) -> None:
    """The store is as good as new."""
    snapshots.cleanup()
    snapshots.prepare("afterwards")
    snapshots.commit("afterwards, committed", "afterwards", volatile=True)
    wait_until(lambda: not is_packing(Path(os.fsdecode(store.root))))


@pytest.mark.parametrize(("name", "mkfs"), SUBJECTS, ids=[f"{name} on {mkfs}" for name, mkfs in SUBJECTS])
def test_committed_snapshot_outlasts_a_power_cut(
    name: str, mkfs: str, disk: MakeDisk, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("kernel overlay", *(["btrfs"] if mkfs == "btrfs" else []))
    monkeypatch.syspath_prepend(str(THIRD_PARTY))
    made = disk(mkfs)
    with open_store(made.root / "store") as store:
        live(made, store.snapshotter(name))
    wait_until(lambda: not is_packing(made.root))
    for cut in made.cuts(seed=name, number=CUTS):
        inspect(cut, name, scratch)
