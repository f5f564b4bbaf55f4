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
from benchmarks.subjects.named import NamedPeer
from benchmarks.subjects.rootless import Rootless
from benchmarks.subjects.squashfs import LoopSquashfs, SquashFuse

EXTRA = ("squashfuse+fuse-overlayfs", "loop-squashfs", "btrfs")
"""Different storage, there for the full picture: left out by --quick, asked little short of --full."""


def all_subjects(cache: Path, peers: Sequence[str] = ()) -> list[Subject]:
    """Return every subject, missing ones too (they say why); `peers` are NAME=COMMAND strings."""
    fuse = [FuseOverlayfs(path) for path in found_programs(cache)] or [FuseOverlayfs(None)]
    rooted: list[Subject] = [
        Bind(),
        KernelOverlay(),
        *fuse,
        LayerfsMount("fuse"),
        LayerfsMount("kernel"),
        SquashFuse(cache, fuse[0]),
        LoopSquashfs(cache),
        Btrfs(cache),
    ]
    rooted += [NamedPeer(peer) for peer in peers]
    plain: list[Subject] = [KernelOverlay(rootless=True), *fuse, LayerfsMount("fuse"), LayerfsMount("kernel")]
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
        return [one for name, one in known.items() if name not in EXTRA and not one.owner]
    return list(known.values())
