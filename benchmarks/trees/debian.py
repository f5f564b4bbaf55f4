"""The tree `debian`: a small Debian made by mmdebstrap, whole in the lowest layer, with packages ready to be installed.

The other layers are empty. Beside the layers in the cache: the same root filesystem as a tar archive, for `tar x`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.model import BenchError, BuiltTree
from benchmarks.trees import lowest

SUITE = "bookworm"
INSTALLED = ("python3", "make", "less", "file")
"""What `apt-get install` is to install in the chroot; downloaded beforehand with what it depends on."""


def build(layers: int, cache: Path) -> BuiltTree:
    """Build or find the tree."""
    return lowest.build("debian", layers, cache, lambda base: unpack(archive(cache), base))


def archive(cache: Path) -> Path:
    """Make the root filesystem as a tar archive, with the host's own package sources."""
    tar = cache / "rootfs.tar"
    if not tar.exists():
        if not shutil.which("mmdebstrap"):
            raise BenchError("the tree `debian` needs mmdebstrap")
        fresh = cache / f"rootfs.{os.getpid()}.tar"
        done = subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=apt", SUITE, str(fresh)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise BenchError(f"mmdebstrap failed: {done.stderr.strip()[-300:]}")
        fresh.rename(tar)
    return tar


def unpack(tar: Path, base: Path) -> None:
    """Unpack the archive and put the packages to be installed into /debs."""
    with unpacked(tar, base) as fresh:
        (fresh / "debs/partial").mkdir(parents=True)
        settings = (
            f"Dir::State::status={fresh}/var/lib/dpkg/status",
            f"Dir::Cache::archives={fresh}/debs",
            "Debug::NoLocking=true",
        )
        apt_get(settings, "-d", "--no-install-recommends", "install", *INSTALLED)
        (fresh / "debs/partial").rmdir()


@contextmanager
def unpacked(tar: Path, base: Path) -> Iterator[Path]:
    """Unpack the archive beside `base`, let the caller go on there, and give it that name; BenchError if it failed."""
    fresh = base.with_name(f".{os.getpid()}")
    try:
        fresh.mkdir(parents=True)
        subprocess.run(["tar", "-x", "-p", "-f", str(tar), "-C", str(fresh)], check=True, stderr=subprocess.PIPE)
        yield fresh
        fresh.rename(base)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        said = getattr(error, "stderr", None) or b""
        raise BenchError(f"cannot build a small Debian: {error} {os.fsdecode(said)[-300:]}") from error


def apt_get(settings: Sequence[str], *words: str) -> None:
    """Run the host's `apt-get` with some settings, as root; CalledProcessError if it fails."""
    options = [word for setting in ("APT::Sandbox::User=", *settings) for word in ("-o", setting)]
    subprocess.run(["apt-get", "-q", "-y", *options, *words], check=True, capture_output=True, stdin=subprocess.DEVNULL)
