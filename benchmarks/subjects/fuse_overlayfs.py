"""fuse-overlayfs, every version found: Debian's, cargo's, and the one of `make peers`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.model import BuiltTree, Site
from benchmarks.subjects.plain import Plain, overlay_options

PLACES = (Path("/usr/bin"), Path(__file__).parents[2] / ".peers/bin", Path.home() / ".cargo/bin")


class FuseOverlayfs(Plain):
    """One fuse-overlayfs program, named by its version."""

    def __init__(self, program: Path | None) -> None:
        self.program = program
        self.number = version_of(program) if program else ""
        self.name = f"fuse-overlayfs-{self.number}" if program else "fuse-overlayfs"
        self.about = f"fuse-overlayfs {self.number}, the FUSE overlay of podman"

    def missing(self) -> str | None:
        """Need the program and /dev/fuse."""
        if not self.program:
            return "no fuse-overlayfs found (Debian package fuse-overlayfs, or `make peers`)"
        return None if os.access("/dev/fuse", os.R_OK | os.W_OK) else "/dev/fuse may not be opened"

    def version(self) -> str:
        """Return the number it prints."""
        return self.number

    def mount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Mount as podman does."""
        return [str(self.program), "-o", overlay_options(layers, site), str(site.mnt)]


def found_programs(cache: Path) -> list[Path]:
    """Return one program for each version, readable by everybody (what lies in a home is copied to the cache)."""
    found: dict[str, Path] = {}
    for directory in (*PLACES, *map(Path, os.environ.get("PATH", "").split(":"))):
        program = directory / "fuse-overlayfs"
        if os.access(program, os.X_OK):
            found.setdefault(version_of(program), program)
    return [reachable(program, version, cache) for version, program in found.items()]


def reachable(program: Path, version: str, cache: Path) -> Path:
    """Return the program, or a copy of it in the cache if another user could not start it where it is."""
    if all(parent.stat().st_mode & 1 for parent in program.resolve().parents):
        return program
    copy = cache / "bin" / f"fuse-overlayfs-{version}"
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(program, copy)
    return copy


def version_of(program: Path) -> str:
    """Return what `--version` says after the program's name."""
    said = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=10)
    for line in (said.stdout + said.stderr).splitlines():
        if line.startswith("fuse-overlayfs"):
            return line.split()[-1]
    return "unknown"
