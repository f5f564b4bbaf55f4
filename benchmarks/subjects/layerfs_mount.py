"""layerfs mount, one subject for each driver."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
from functools import cache as once
from pathlib import Path

from benchmarks.model import BuiltTree, Case, Site
from benchmarks.subjects.plain import Plain


class LayerfsMount(Plain):
    """`layerfs mount --driver=...` of the installation that runs this harness."""

    images = True

    def __init__(self, driver: str) -> None:
        self.driver = driver
        self.name = f"layerfs-{driver}"
        self.about = f"layerfs mount --driver={driver}"

    def missing(self) -> str | None:
        """Need the console script."""
        return None if program() else "the program layerfs is not installed beside this Python (`make setup`)"

    def version(self) -> str:
        """Return the package's version and, in a work tree, the commit."""
        import layerfs

        commit = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"], capture_output=True, text=True
        )
        return f"{layerfs.__version__} {commit.stdout.strip()}".strip()

    def prepare(self, layers: BuiltTree, site: Site, case: Case) -> None:
        """Compile the package, as every installer does; a work tree whose files were edited may not be."""
        compile_package()

    def mount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Mount as a person would type it."""
        return [
            program(),
            "mount",
            *map(str, layers.lowers),
            str(site.mnt),
            "--upper",
            str(site.upper),
            "--work",
            str(site.work),
            "--driver",
            self.driver,
        ]


@once
def compile_package() -> None:
    """Write the byte code of layerfs and of its snapshot drivers."""
    import layerfs
    import snapshotters

    for package in (layerfs, snapshotters):
        compileall.compile_dir(Path(str(package.__file__)).parent, quiet=2)


def program() -> str:
    """Return the console script beside the running Python, else the one on PATH, else nothing."""
    beside = Path(sys.executable).with_name("layerfs")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("layerfs") or ""
