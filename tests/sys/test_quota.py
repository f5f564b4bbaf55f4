"""Project quotas; where LAYERFS_PROJECT_QUOTA names a directory on a filesystem that has them, limits hold as well."""

import errno
import os
import subprocess
from pathlib import Path

from layerfs.sys import quota

WITH = os.environ.get("LAYERFS_PROJECT_QUOTA", "")
SIZE = 4 << 20


def test_a_filesystem_without_quotas_is_told_apart(scratch: Path) -> None:
    place = scratch / "tmpfs"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    assert not quota.limit(os.fsencode(place), SIZE, 1)
    quota.forget(os.fsencode(place))
    quota.forget(os.fsencode(scratch / "absent"))


def fill(path: Path, size: int) -> int:
    """Write a file without the capability that passes the limits of ext4; return the errno."""
    program = "import os,sys\ntry:\n with open(sys.argv[1],'wb') as f: f.write(bytes(int(sys.argv[2])))\n"
    program += "except OSError as e: sys.exit(e.errno)"
    command: list[str | Path] = [
        "setpriv",
        "--bounding-set=-sys_resource",
        "--inh-caps=-all",
        "python3",
        "-c",
        program,
        path,
        str(size),
    ]
    return subprocess.run(command, check=False).returncode


if WITH:

    def test_a_limit_holds_until_it_is_forgotten() -> None:
        place = Path(WITH)
        for number in range(2):
            os.mkdir(place / f"{number}")
            assert quota.limit(os.fsencode(place / f"{number}"), SIZE, 7)
            os.mkdir(place / f"{number}" / "below")
        for number in range(2):  # each has a limit of its own, though they asked for the same project
            assert fill(place / f"{number}" / "below/file", SIZE * 3 // 4) == 0
            assert fill(place / f"{number}" / "below/more", SIZE) in (errno.EDQUOT, errno.ENOSPC)
        quota.forget(os.fsencode(place / "0"))
        assert fill(place / "0" / "below/more", SIZE) == 0
