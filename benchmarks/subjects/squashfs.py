"""Layers as squashfs images: loop mounts under kernel overlayfs, squashfuse_ll under fuse-overlayfs.

A tree of directories is packed into images first, untimed; a tree of images is taken as it is.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from benchmarks.model import BuiltTree, Case, Site
from benchmarks.subjects.fuse_overlayfs import FuseOverlayfs
from benchmarks.subjects.plain import UMOUNT, Plain, need_program
from benchmarks.trees import images

LOOPS = 256  # loop devices in use at once


class LoopSquashfs(Plain):
    """One loop mount for each layer, one after another, kernel overlayfs on top."""

    name = "loop-squashfs"
    about = "kernel overlayfs over one loop-mounted squashfs image for each layer (zstd, 128 KiB blocks)"
    single = "/usr/bin/mount -t squashfs -o loop,ro {image} {point}"
    release = UMOUNT
    images = True

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def missing(self) -> str | None:
        """Need mksquashfs and root."""
        return need_program("mksquashfs", "squashfs-tools") or super().missing()

    def refuses(self, case: Case) -> str | None:
        """Decline what would need hours of compression or hundreds of loop devices."""
        if case.tree in ("million", "huge"):
            return "images of this tree would take too long to make"
        concurrency = dict(case.vary).get("concurrency", 1)
        return "too many loop devices" if case.layers * int(concurrency) > LOOPS else None

    def prepare(self, layers: BuiltTree, site: Site, case: Case) -> None:
        """Make the images that are missing, and the directories they are mounted on."""
        for index, _ in enumerate(self.images_of(layers)):
            self.point(site, index).mkdir(parents=True, exist_ok=True)

    def images_of(self, layers: BuiltTree) -> list[Path]:
        """Return the images of all layers, made now where they are missing."""
        return [lower if lower.is_file() else images.image(layers, lower, self.cache) for lower in layers.lowers]

    def point(self, site: Site, index: int) -> Path:
        """Return where the image of a layer is mounted."""
        return site.home / "l" / f"{index:03d}"

    def mount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Mount all images, then the overlay, in one shell."""
        lines = [
            self.single.format(image=shlex.quote(str(image)), point=self.point(site, index))
            for index, image in enumerate(self.images_of(layers))
        ]
        names = ":".join(f"{index:03d}" for index in range(len(layers.lowers)))
        options = f"lowerdir={names},upperdir={site.upper},workdir={site.work}"
        return ["/bin/sh", "-ec", "\n".join([*lines, f"cd {site.home / 'l'}", self.stack(options, site.mnt)])]

    def stack(self, options: str, mnt: Path) -> str:
        """Return the command that stacks the mounted images."""
        return f"/usr/bin/mount -t overlay overlay -o {options} {mnt}"

    def unmount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Unmount the overlay, then the images."""
        points = " ".join(str(self.point(site, index)) for index in range(len(layers.lowers)))
        return ["/bin/sh", "-ec", f"{UMOUNT} {site.mnt}\n{self.release} {points}"]


class SquashFuse(LoopSquashfs):
    """The same without the kernel: squashfuse_ll for each image, fuse-overlayfs on top.

    The servers are started one after another, as a script or a package's own start-up does it: squashfuse_ll returns
    when it has mounted, and only then comes the next.
    """

    single = "squashfuse_ll {image} {point}"
    release = f"{UMOUNT} -l"  # fuse-overlayfs still holds them when its own umount has returned

    def __init__(self, cache: Path, overlay: FuseOverlayfs) -> None:
        super().__init__(cache)
        self.overlay = overlay
        self.name = f"squashfuse+{overlay.name}"
        self.about = f"{overlay.name} over one squashfuse_ll for each layer"

    def missing(self) -> str | None:
        """Need all three programs."""
        lacking = need_program("squashfuse_ll", "squashfuse") or need_program("mksquashfs", "squashfs-tools")
        return lacking or self.overlay.missing()

    def version(self) -> str:
        """Return the overlay's version and squashfuse's."""
        said = subprocess.run(["squashfuse_ll"], capture_output=True, text=True, timeout=10)
        return f"{self.overlay.version()}, {(said.stderr or said.stdout).splitlines()[0].strip()}"

    def refuses(self, case: Case) -> str | None:
        """Decline what starts hundreds of servers."""
        return super().refuses(case) or ("too many servers" if case.layers > 40 else None)

    def stack(self, options: str, mnt: Path) -> str:
        """Return the command that stacks the mounted images; paths are resolved from their directory."""
        return f"{self.overlay.program} -o {options} {mnt}"
