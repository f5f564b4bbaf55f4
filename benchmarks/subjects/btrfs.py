"""btrfs by hand: the merged tree in a subvolume, a writable snapshot of it for each mount."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from benchmarks.model import BuiltTree, Case, Site
from benchmarks.subjects.plain import UMOUNT, Plain, need_program

SIZE = 12 << 30  # bytes of the sparse image file


class Btrfs(Plain):
    """A loop-mounted btrfs in the cache; layers do not exist in it, only the merged result."""

    name = "btrfs"
    about = "btrfs by hand (loop file): a snapshot of a subvolume that holds the merged tree"

    def __init__(self, cache: Path) -> None:
        self.image = cache / "btrfs.img"
        self.root = cache / "btrfs"

    def missing(self) -> str | None:
        """Need btrfs-progs, the filesystem and root."""
        return need_program("mkfs.btrfs", "btrfs-progs") or super().missing()

    def refuses(self, case: Case) -> str | None:
        """Decline the largest trees: the image file is bounded."""
        return "the loop file is too small for it" if case.tree in ("million", "huge") else None

    def prepare(self, layers: BuiltTree, site: Site, case: Case) -> None:
        """Make the filesystem and the tree's subvolume if they are not there."""
        if not self.root.is_mount():
            self.root.mkdir(parents=True, exist_ok=True)
            if not self.image.exists():
                with self.image.open("wb") as image:
                    image.truncate(SIZE)
                subprocess.run(["mkfs.btrfs", "-q", str(self.image)], check=True, capture_output=True)
            subprocess.run(["mount", "-o", "loop", str(self.image), str(self.root)], check=True)
        base = self.root / layers.tree
        if not base.exists():
            fresh = self.root / f".{layers.tree}"
            if fresh.exists():
                subprocess.run(["btrfs", "-q", "subvolume", "delete", str(fresh)], check=True)
            subprocess.run(["btrfs", "-q", "subvolume", "create", str(fresh)], check=True)
            subprocess.run(["cp", "-a", f"{layers.flat}/.", str(fresh)], check=True)
            fresh.rename(base)

    def snapshot(self, site: Site) -> Path:
        """Return where this place's snapshot lives."""
        return self.root / f"run-{site.home.name}"

    def mount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Snapshot, then bind it."""
        snapshot = shlex.quote(str(self.snapshot(site)))
        base = shlex.quote(str(self.root / layers.tree))
        return ["/bin/sh", "-ec", f"btrfs -q subvolume snapshot {base} {snapshot}\nmount --bind {snapshot} {site.mnt}"]

    def unmount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Unbind and delete the snapshot."""
        snapshot = shlex.quote(str(self.snapshot(site)))
        return ["/bin/sh", "-ec", f"{UMOUNT} {site.mnt}\nbtrfs -q subvolume delete {snapshot}"]

    def finish(self) -> None:
        """Unmount the filesystem."""
        if self.root.is_mount():
            subprocess.run(["umount", str(self.root)], capture_output=True)
