"""An upper has one mount at a time, whoever mounts it."""

import os
from pathlib import Path

import pytest

from layerfs.union.claim import holder
from tests.cli.conftest import Place, make_place
from tests.host import Person, require


@pytest.mark.parametrize("first", ["person", "root"])
@pytest.mark.parametrize("driver", ["fuse", "kernel"])
def test_an_upper_has_one_mount_whoever_mounts_it_and_by_which_driver(
    scratch: Path, person: Person, first: str, driver: str
) -> None:
    """Each had a work directory of its own and saw only its own lock file: both wrote the one upper."""
    require("root", "fuse", "kernel overlay", "user xattrs")
    theirs = make_place(scratch / "theirs", person)
    ours = make_place(scratch / "ours", None)
    one, other = (theirs, ours) if first == "person" else (ours, theirs)
    of_one, of_other = ("fuse", driver) if first == "person" else (driver, "fuse")
    one.do("mount", *one.layers, one.mnt, "--upper", theirs.upper, "--driver", of_one, *_work(one))
    refused = other.run("mount", *other.layers, other.mnt, "--upper", theirs.upper, "--driver", of_other, *_work(other))
    assert refused.returncode == 1
    assert "in use by" in refused.stderr
    one.do("umount", one.mnt)
    other.do("mount", *other.layers, other.mnt, "--upper", theirs.upper, "--driver", of_other, *_work(other))
    other.do("umount", other.mnt)
    fd = os.open(theirs.upper, os.O_RDONLY)
    assert holder(fd) is None  # a server that was unmounted while it started was killed, and left its note
    os.close(fd)


def _work(place: Place) -> tuple[str, Path]:
    """Return a work directory of who mounts; all may write beside it, as in a directory of a group."""
    work = place.base / "work"
    work.mkdir(exist_ok=True)
    if place.person is not None:
        place.person.owns(work)
    return "--work", work
