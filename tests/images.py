"""Images for tests, and what is left of them on the host: loop devices, servers."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.waiting import PATIENCE


def make_image(image: Path, tree: Path, *words: str) -> Path:
    """Pack a directory with mksquashfs; whiteouts, owners and xattrs are kept."""
    quiet = ["-noappend", "-quiet", "-no-progress", "-processors", "1"]
    subprocess.run(["mksquashfs", tree, image, *quiet, *words], check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)
    return image


def loops_below(place: Path) -> list[Path]:
    """Return the loop devices (below /sys) whose files are at or below a path."""
    found = []
    for loop in Path("/sys/block").glob("loop*/loop"):
        with suppress(OSError):  # freed at this moment
            backing = (loop / "backing_file").read_text().rstrip("\n")
            if backing == str(place) or backing.startswith(f"{place}/"):
                found.append(loop)
    return found


def servers_below(place: Path) -> list[int]:
    """Return the processes, zombies aside, that name something below a path on their command lines."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if any(word.startswith(os.fsencode(place) + b"/") for word in words):
                found.append(int(pid))
    return found
