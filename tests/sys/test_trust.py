"""A path is walked by steps that no other user can exchange; what is missing is made after all before it was seen."""

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerfs.sys.trust import LINKS, Untrusted, walk
from tests.host import Person, require
from tests.waiting import PATIENCE

OTHER = 4711  # somebody who is neither root nor whoever runs the tests


@pytest.fixture
def place(scratch: Path) -> Path:
    """A directory with `a/b` in it; only root can give things to others."""
    require("root")
    (scratch / "a/b").mkdir(parents=True)
    return scratch


def reached(path: Path, *, make: int | None = None, sticky: bool = False) -> Path:
    """Where a walk ends; what its descriptor is and what its path says are one directory."""
    found = walk(os.fsencode(path), make=make, sticky=sticky)
    try:
        assert os.path.samestat(os.fstat(found.fd), os.lstat(found.path))
    finally:
        os.close(found.fd)
    return Path(os.fsdecode(found.path))


def test_a_walk_ends_where_the_path_leads(place: Path) -> None:
    (place / "link").symlink_to("a/../a/./b/..//b")
    (place / "absolute").symlink_to(place / "link")
    for path in (place / "a/b", Path(f"{place}//a/./b/"), place / "link", place / "absolute", place / "a/b/../../a/b"):
        assert reached(path) == place / "a/b"
    assert reached(Path("/")) == Path("/")
    assert reached(place / "../../../../..") == Path("/")


def theirs_in_a_sticky_one(place: Path) -> None:
    (place / "a").chmod(0o1777)
    os.chown(place / "a/b", OTHER, OTHER)


CHANGEABLE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "another's": (lambda place: os.chown(place / "a", OTHER, OTHER), "a", "belongs to somebody else"),
    "open to all": (lambda place: (place / "a").chmod(0o777), "a", "is open to others"),
    "open to a group": (lambda place: (place / "a").chmod(0o775), "a", "is open to others"),
    "the last one is another's": (lambda place: os.chown(place / "a/b", OTHER, -1), "a/b", "belongs to somebody else"),
    "the last one is sticky": (lambda place: (place / "a/b").chmod(0o1777), "a/b", "is open to others"),
    "another's in a sticky one": (
        theirs_in_a_sticky_one,
        "a/b",
        "belongs to somebody else",
    ),
}


@pytest.mark.parametrize(("change", "step", "why"), CHANGEABLE.values(), ids=CHANGEABLE)
def test_a_step_that_another_user_may_change_is_refused(
    place: Path, change: Callable[[Path], object], step: str, why: str
) -> None:
    change(place)
    with pytest.raises(Untrusted, match=why) as caught:
        reached(place / "a/b")
    assert caught.value.filename == os.fsencode(place / step)


def test_a_sticky_step_will_do_and_so_may_the_last_one(place: Path) -> None:
    (place / "a").chmod(0o1777)
    assert reached(place / "a/b") == place / "a/b"
    (place / "a/b").chmod(0o1777)
    assert reached(place / "a/b", sticky=True) == place / "a/b"


def test_a_symlink_is_followed_if_nobody_else_can_exchange_it(place: Path) -> None:
    (place / "open").mkdir(0o700)
    (place / "open").chmod(0o1777)
    (place / "open/ours").symlink_to(place / "a")
    (place / "open/theirs").symlink_to(place / "a")
    os.chown(place / "open/theirs", OTHER, OTHER, follow_symlinks=False)
    assert reached(place / "open/ours/b") == place / "a/b"
    with pytest.raises(Untrusted, match="symlink of somebody else's"):
        reached(place / "open/theirs/b")
    for number in range(LINKS + 1):
        (place / f"l{number}").symlink_to(f"l{number + 1}")
    with pytest.raises(OSError, match="Too many levels"):
        reached(place / "l0")


def test_what_is_missing_is_made_whatever_the_umask_is(place: Path) -> None:
    old = os.umask(0o777)
    try:
        assert reached(place / "a/new/er", make=0o700) == place / "a/new/er"
    finally:
        os.umask(old)
    assert [stat.S_IMODE((place / "a" / name).stat().st_mode) for name in ("new", "new/er")] == [0o700] * 2
    assert reached(place / "a/new/er", make=0o755) == place / "a/new/er"
    assert stat.S_IMODE((place / "a/new/er").stat().st_mode) == 0o700


def test_nothing_is_made_in_what_is_refused(place: Path) -> None:
    os.chown(place / "a", OTHER, OTHER)
    with pytest.raises(Untrusted):
        reached(place / "a/new", make=0o700)
    assert os.listdir(place / "a") == ["b"]


def test_what_is_absent_or_no_directory_is_said_by_its_path(place: Path) -> None:
    (place / "a/file").touch()
    for name, error in {"a/none/b": FileNotFoundError, "a/file": NotADirectoryError}.items():
        with pytest.raises(error) as caught:
            reached(place / name)
        assert os.fsdecode(caught.value.filename).startswith(str(place / "a"))


@pytest.fixture
def served(place: Path, person: Person) -> Iterator[Path]:
    """A FUSE mount that somebody else has made in a sticky directory."""
    require("fuse")
    person.owns(person.home / "layer/below")
    (place / "a").chmod(0o1777)
    person.owns(place / "a/m")
    person.run(["layerfs", "mount", "--driver=fuse", person.home / "layer", place / "a/m"])
    try:
        yield place / "a/m"
    finally:
        person.run(["layerfs", "umount", place / "a/m"])


@pytest.mark.mounts
def test_a_filesystem_that_another_user_serves_proves_nothing(served: Path) -> None:
    """It may say that its directories are root's and closed, so it is not even asked."""
    for path in (served, served / "below"):
        with pytest.raises(Untrusted, match="another user serves") as caught:
            reached(path)
        assert caught.value.filename == os.fsencode(served)


@pytest.mark.mounts
def test_a_filesystem_of_root_s_is_a_step_like_any_other(place: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", place / "a"], check=True, timeout=PATIENCE)
    assert reached(place / "a/c", make=0o755) == place / "a/c"
