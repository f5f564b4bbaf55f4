"""The session of a filesystem (boot and mount), to tell whether it was mounted again since."""

import os
from functools import cache


def session_of(directory: bytes) -> str:
    """Return an id that stays the same while a directory's filesystem stays mounted and the machine stays up.

    It may change more often: mounts are counted for each mount namespace.
    """
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        device = os.fstat(fd).st_dev
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
            mount = next((line.split()[1] for line in file if line.startswith("mnt_id:")), "0")
    finally:
        os.close(fd)
    return f"{boot().decode()} {device} {mount}"


@cache
def boot() -> bytes:
    """Return the id of this boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read().strip()
