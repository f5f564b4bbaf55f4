"""A driver that a third party might write, from `layerfs/snapshots/driver.py` alone: each snapshot is a whole copy."""

import os
import subprocess

from layerfs.errors import Unsupported
from layerfs.snapshots.driver import Capability, Form, LayerPlace, Mount, Snapshot, SnapshotKind, Usage, usage_of


class CopyingDriver:
    """Needs nothing of the host but cp(1)."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, root: bytes) -> None:
        self.root = root

    def check(self) -> None:
        if os.geteuid() != 0:
            raise Unsupported("copies keep their owners for root only", "be root")

    def create(self, snapshot: Snapshot) -> None:
        if snapshot.parents:
            source, target = (os.path.join(place, b"tree") for place in (snapshot.parents[0], snapshot.directory))
            subprocess.run(["cp", "-a", "--", source, target], check=True)
        else:
            os.mkdir(os.path.join(snapshot.directory, b"tree"))

    def mounts(self, snapshot: Snapshot) -> tuple[Mount, ...]:
        source = os.fsdecode(os.path.join(snapshot.directory, b"tree"))
        return (Mount("bind", source, ("rbind", "rw" if snapshot.kind is SnapshotKind.ACTIVE else "ro")),)

    def layer(self, directory: bytes) -> LayerPlace:
        return LayerPlace(os.path.join(directory, b"tree"), Form.WHOLE)

    def seal(self, snapshot: Snapshot) -> None:
        pass

    def usage(self, snapshot: Snapshot) -> Usage:
        return usage_of(os.path.join(snapshot.directory, b"tree"))

    def discard(self, directory: bytes) -> None:
        pass
