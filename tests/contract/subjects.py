"""The drivers that the contract suite runs over, each in a store of its own on a filesystem that it can use."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from layerfs.model import Mount
from layerfs.mounts.apply import mounted
from layerfs.snapshots.library import Store, open_store
from layerfs.snapshots.snapshotter import Snapshotter
from tests.host import require
from tests.oracle.trees import Tree, read_tree
from tests.waiting import wait_until

BTRFS_SIZE = 256 << 20  # bytes; mkfs.btrfs wants more than 109 MiB
THIRD_PARTY = Path(__file__).parent / "package"
DRIVERS = ("overlay", "fuse", "btrfs", "xar", "copying")
NEEDS = {"overlay": ["kernel overlay"], "fuse": ["fuse"], "btrfs": ["btrfs"], "xar": ["fuse"], "copying": []}


class Subject:
    """A store and the snapshotter of one driver in it; `at` mounts, and what is mounted goes with the scratch."""

    def __init__(self, name: str, place: Path) -> None:
        self.name = name
        self.place = place
        self.root = (a_btrfs(place) if name == "btrfs" else place) / "store"
        self.open()

    def open(self) -> None:
        self.store: Store = open_store(self.root)
        with ExitStack() as undo:
            undo.callback(self.store.close)
            self.snapshots: Snapshotter = self.store.snapshotter(self.name)
            undo.pop_all()

    def reopen(self) -> None:
        self.store.close()
        self.open()

    @contextmanager
    def at(self, key: str) -> Iterator[Path]:
        """A snapshot's mountpoint."""
        with self.mounted(self.snapshots.mounts(key), key) as target:
            yield target

    @contextmanager
    def mounted(self, mounts: tuple[Mount, ...], key: str) -> Iterator[Path]:
        target = self.place / f"at-{key.replace(chr(47), chr(95))}"
        target.mkdir(exist_ok=True)
        with mounted(mounts, target):
            yield target

    def layer(self, name: str, parent: str = "", **files: str | None) -> None:
        """Commit a layer with these files; None removes one."""
        self.snapshots.prepare(f"{name}-key", parent)
        with self.at(f"{name}-key") as target:
            for path, content in files.items():
                if content is None:
                    (target / path).unlink()
                else:
                    (target / path).write_text(content)
        self.snapshots.commit(name, f"{name}-key")

    def view(self, name: str) -> dict[str, str]:
        """The files of the root directory of a committed snapshot."""
        self.snapshots.view(f"{name}-view", name)
        with self.at(f"{name}-view") as target:
            found = {path.name: path.read_text() for path in sorted(target.iterdir()) if path.is_file()}
        self.snapshots.remove(f"{name}-view")
        return found

    def tree(self, key: str) -> Tree:
        """All of an active snapshot or a view."""
        with self.at(key) as target:
            return read_tree(os.fsencode(target))


def is_packing(root: Path) -> bool:
    """Whether a process packs in the background of a store, or something waits for one.

    A process that was just started has no command line yet, for a moment.
    """
    if any(next((store / "drivers/xar/queue").glob("*"), None) for store in (root, root / "store")):
        return True
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", name, "cmdline").read_bytes()
        except OSError:  # ended
            continue
        if os.fsencode(root) in words and b"snapshotters.xar" in words:
            return True
    return False


def a_btrfs(place: Path) -> Path:
    """A filesystem in a file, mounted; the scratch directory takes it away."""
    image, root = place / "image", place / "btrfs"
    image.touch()
    os.truncate(image, BTRFS_SIZE)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True, stdout=subprocess.DEVNULL)
    root.mkdir()
    subprocess.run(["mount", "-o", "loop", image, root], check=True)
    return root


@contextmanager
def a_subject(name: str, place: Path) -> Iterator[Subject]:
    """A subject below a scratch directory."""
    require("root", *NEEDS[name])
    sys.path.append(str(THIRD_PARTY))
    try:
        subject = Subject(name, place)
        try:
            yield subject
        finally:
            subject.store.close()
            wait_until(lambda: not is_packing(subject.root))
    finally:
        sys.path.remove(str(THIRD_PARTY))
