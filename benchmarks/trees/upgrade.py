"""The tree `upgrade`: a small Debian in the lowest layer, with the lists and packages of the next release."""

from __future__ import annotations

from pathlib import Path

from benchmarks.model import BuiltTree
from benchmarks.trees import debian, lowest

NEXT = "trixie"


def build(layers: int, cache: Path) -> BuiltTree:
    """Build or find the tree."""
    return lowest.build("upgrade", layers, cache, lambda base: _prepare(debian.archive(cache), base))


def _prepare(tar: Path, base: Path) -> None:
    """Unpack the archive, and download what `apt-get dist-upgrade` is to install in it."""
    with debian.unpacked(tar, base) as fresh:
        sources = fresh / "etc/apt/sources.list"
        sources.write_text(sources.read_text().replace(debian.SUITE, NEXT))
        settings = (f"Dir={fresh}", f"Dir::State::status={fresh}/var/lib/dpkg/status")
        debian.apt_get(settings, "update")
        debian.apt_get(settings, "-d", "dist-upgrade")
