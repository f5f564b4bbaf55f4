"""The kernel's overlayfs, mounted by hand with mount(8)."""

from __future__ import annotations

from benchmarks.model import BuiltTree, Site
from benchmarks.subjects.plain import Plain, overlay_options

PAGE = 3800  # bytes; mount(2) takes one page of options


class KernelOverlay(Plain):
    """mount -t overlay; from the layers' directory with relative names where the paths would not fit a page."""

    name = "kernel-overlay"
    about = "kernel overlayfs mounted by hand"

    def __init__(self, rootless: bool = False) -> None:
        self.extra = ",userxattr" if rootless else ""

    def missing(self) -> str | None:
        """Look for the filesystem in the kernel's list."""
        with open("/proc/filesystems") as known:
            if "overlay" not in known.read().split():
                return "this kernel has no overlay filesystem"
        return None if self.extra else super().missing()

    def mount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Mount with the kernel's defaults."""
        options = overlay_options(layers, site) + self.extra
        start: list[str] = []
        if len(options) > PAGE:
            options = options.replace(f"{layers.lowers[0].parent}/", "")
            start = ["/usr/bin/env", "-C", str(layers.lowers[0].parent)]
        return [*start, "/usr/bin/mount", "-t", "overlay", "overlay", "-o", options, str(site.mnt)]
