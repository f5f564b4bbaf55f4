"""What is measured: layerfs's drivers, and the peers found on this host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.model import BenchError, Subject
from benchmarks.subjects.bind import Bind
from benchmarks.subjects.btrfs import Btrfs
from benchmarks.subjects.fuse_overlayfs import FuseOverlayfs, found_programs
from benchmarks.subjects.kernel_overlay import KernelOverlay
from benchmarks.subjects.layerfs_mount import LayerfsMount
from benchmarks.subjects.library import Library
from benchmarks.subjects.named import NamedPeer
from benchmarks.subjects.rootless import Rootless
from benchmarks.subjects.snapshots import DRIVERS, ContainerdSubject, SnapshotSubject
from benchmarks.subjects.squashfs import LoopSquashfs, SquashFuse

EXTRA = ("squashfuse", "loop-squashfs", "btrfs")
"""How the names begin of different storage, there for the full picture: asked little of directories short of --full."""
SNAPSHOTS = ("snapshot-", "library-", "ctr-")
"""How the names begin of snapshotters, which --quick leaves out: committing the layers takes its time."""
QUICK_IMAGES = ("layerfs-fuse-rootless", "squashfuse+fuse-overlayfs-1.10-rootless")
"""Of these --quick asks what it asks of images, and nothing else."""


def all_subjects(cache: Path, peers: Sequence[str] = ()) -> list[Subject]:
    """Return every subject, missing ones too (they say why); `peers` are NAME=COMMAND strings."""
    fuse = [FuseOverlayfs(path) for path in found_programs(cache)] or [FuseOverlayfs(None)]
    rooted: list[Subject] = [
        Bind(),
        KernelOverlay(),
        *fuse,
        LayerfsMount("fuse"),
        LayerfsMount("kernel"),
        *(SquashFuse(cache, one) for one in fuse),
        LoopSquashfs(cache),
        Btrfs(cache),
        *(SnapshotSubject(driver, cache) for driver in DRIVERS),
        *(Library(driver, cache) for driver in ("overlay", "btrfs")),
        *(ContainerdSubject(snapshotter, cache) for snapshotter in ("overlayfs", "btrfs")),
    ]
    rooted += [NamedPeer(peer) for peer in peers]
    plain: list[Subject] = [KernelOverlay(rootless=True), *fuse, LayerfsMount("fuse"), LayerfsMount("kernel")]
    plain += [SquashFuse(cache, one) for one in fuse]
    return rooted + [Rootless(subject, cache) for subject in plain]


def chosen(subjects: Sequence[Subject], names: Sequence[str], quick: bool) -> list[Subject]:
    """Return the subjects called `names`; without names those of the scale."""
    known = {subject.name: subject for subject in subjects}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BenchError(f"no subject is called {', '.join(unknown)}; there are: {', '.join(known)}")
    if names:
        return [known[name] for name in names]
    if quick:
        plain = [one for one in subjects if not (one.owner or is_extra(one) or one.name.startswith(SNAPSHOTS))]
        return [one for one in subjects if one.name in QUICK_IMAGES or one in plain]
    return list(known.values())


def is_extra(subject: Subject) -> bool:
    """Say whether a subject is other storage than directories under an overlay."""
    return subject.name.startswith(EXTRA)
