"""Wheels from wherever this host's pip gets them, downloaded once and kept in CACHE."""

import fcntl
import subprocess
import sys
import zipfile
from pathlib import Path

from .debian import CACHE

DOWNLOAD_TIMEOUT = 280.0  # seconds, of the 300 that one test has


def unpack(name: str, folder: Path) -> None:
    """Unpack a binary wheel of this interpreter's kind into a directory."""
    place = CACHE / "wheels"
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    with open(place / "lock", "w") as lock:  # two sessions do not download at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _kept(place, name):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            words = ["--only-binary=:all:", "--dest", str(place), name]
            subprocess.run([*command, *words], check=True, timeout=DOWNLOAD_TIMEOUT)
        (wheel,) = _kept(place, name)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)


def _kept(place: Path, name: str) -> list[Path]:
    """Return the wheel of a name for this interpreter, if it was downloaded."""
    return [*place.glob(f"{name}-*-cp{sys.version_info.major}{sys.version_info.minor}-*.whl")][:1]
