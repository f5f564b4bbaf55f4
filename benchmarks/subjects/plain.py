"""What most subjects have in common: no namespace, nothing to prepare, umount(8) takes them down."""

from __future__ import annotations

import os
import shutil

from benchmarks.model import BuiltTree, Case, Site

UMOUNT = "/usr/bin/umount"


class Plain:
    """Defaults of `model.Subject`."""

    name = ""
    about = ""
    prefix: tuple[str, ...] = ()
    owner = 0
    images = False

    def missing(self) -> str | None:
        """Need root, as most that mounts does."""
        return None if os.geteuid() == 0 else "needs root"

    def version(self) -> str:
        """Return the kernel's, for what the kernel does."""
        return f"Linux {os.uname().release}"

    def refuses(self, case: Case) -> str | None:
        """Accept every case."""
        return None

    def prepare(self, layers: BuiltTree, site: Site, case: Case) -> None:
        """Need no preparation."""

    def unmount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Unmount the one mountpoint."""
        return [UMOUNT, str(site.mnt)]

    def finish(self) -> None:
        """Hold nothing."""


def overlay_options(layers: BuiltTree, site: Site) -> str:
    """Return lowerdir=, upperdir= and workdir= as every overlay knows them."""
    lowers = ":".join(map(str, layers.lowers))
    return f"lowerdir={lowers},upperdir={site.upper},workdir={site.work}"


def need_program(name: str, package: str) -> str | None:
    """Say which Debian package brings a program that is not there."""
    return None if shutil.which(name) else f"{name} is not installed (Debian package {package})"
