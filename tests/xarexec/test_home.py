"""Where shared mounts are: whose directories are used, and which lock counts."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.errors import Unsupported
from layerfs.sys import private
from layerfs.xarexec import home
from layerfs.xarexec.home import find_home, locked
from tests.host import require
from tests.waiting import PATIENCE, wait_until
from tests.xarexec.conftest import home_in

NOBODY = 65534


def test_the_home_is_this_users_alone(root: Path) -> None:
    assert find_home(bytes(root)) == bytes(home_in(root))
    st = home_in(root).stat()
    assert (st.st_uid, st.st_mode & 0o7777) == (os.geteuid(), 0o700)
    assert find_home(bytes(root)) == bytes(home_in(root))


def _owned_by_another(home: Path) -> None:
    require("root")
    home.mkdir(0o700)
    os.chown(home, NOBODY, NOBODY)


def _open_to_others(home: Path) -> None:
    home.mkdir()
    home.chmod(0o770)


def _symlink(home: Path) -> None:
    (home.parent / "elsewhere").mkdir()
    home.symlink_to("elsewhere")


def _file(home: Path) -> None:
    home.write_text("")


def _root_of_another(home: Path) -> None:
    require("root")
    os.chown(home.parent, NOBODY, NOBODY)


def _root_not_sticky(home: Path) -> None:
    home.parent.chmod(0o777)


def _way_of_another(home: Path) -> None:
    require("root")
    os.chown(home.parent.parent, NOBODY, NOBODY)


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "the home is somebody else's": (_owned_by_another, f"belongs to somebody else (owner {NOBODY}, mode 0700)"),
    "the home is open to a group": (_open_to_others, "is open to others"),
    "the home is a symlink": (_symlink, "is not a directory"),
    "the home is a file": (_file, "is not a directory"),
    "the root is somebody else's": (_root_of_another, f"belongs to somebody else (owner {NOBODY}, mode 1777)"),
    "names in the root may be exchanged": (_root_not_sticky, "is open to others"),
    "a step of the way is somebody else's": (_way_of_another, "belongs to somebody else"),
}


@pytest.mark.parametrize(("prepare", "said"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_directory_is_refused_by_name_and_the_next_taken(
    prepare: Callable[[Path], None],
    said: str,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setattr(home, "ROOTS", (bytes(tmp_path),))
    prepare(home_in(root))
    assert find_home(bytes(root)) == bytes(home_in(tmp_path))
    warned = capsys.readouterr().err
    assert str(root) in warned or str(root.parent) in warned
    assert said in warned
    assert f"mounting in {home_in(tmp_path)} instead" in warned


def test_a_root_that_is_asked_for_and_absent_is_an_error(root: Path) -> None:
    with pytest.raises(Unsupported, match="absent: No such file") as error:
        find_home(bytes(root / "absent"))
    assert "MOUNT_ROOT" in error.value.hint


def test_the_next_root_is_taken_with_a_warning(
    root: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    second = scratch / "second"
    second.mkdir()
    monkeypatch.setattr(home, "ROOTS", (bytes(scratch / "absent"), bytes(root), bytes(second)))
    _open_to_others(home_in(root))
    assert find_home(None) == bytes(home_in(second))
    assert f"{home_in(root)} is open to others (owner {os.geteuid()}, mode 0770)" in capsys.readouterr().err


def test_the_runtime_directory_is_the_last_resort(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(home, "ROOTS", (bytes(scratch / "absent"),))
    runtime = scratch / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert find_home(None) == bytes(home_in(runtime))
    assert capsys.readouterr().err == ""  # that a root is not there is nothing to worry about
    home_in(runtime).chmod(0o777)
    assert os.path.dirname(find_home(None)) == private.runtime_directory()


def test_nothing_is_left_where_no_place_can_be_trusted(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SYSTEM", "SHARED"):
        monkeypatch.setattr(private, name, bytes(scratch / "absent"))
    monkeypatch.setattr(home, "ROOTS", (bytes(scratch / "absent"),))
    with pytest.raises(Unsupported, match="no place for a shared mount") as error:
        find_home(None)
    assert "XDG_RUNTIME_DIR" in error.value.hint


def test_a_root_may_be_reached_through_a_symlink(root: Path, scratch: Path) -> None:
    (scratch / "link").symlink_to(root)
    assert find_home(bytes(scratch / "link")) == bytes(home_in(root))


def _somebody_waits() -> bool:
    """Tell whether this process waits for a flock(2), as proc_locks(5) shows it."""
    lines = Path("/proc/locks").read_bytes().split(b"\n")
    return any(b"->" in line and b" %d " % os.getpid() in line for line in lines)


def test_a_lock_whose_file_was_removed_is_taken_anew(root: Path) -> None:
    path = bytes(root / "mountpoint")
    seen: list[bool] = []

    def wait() -> None:
        with locked(path):
            seen.append(os.path.exists(path + home.LOCK))

    with locked(path):
        assert os.stat(path + home.LOCK).st_mode & 0o777 == 0o600
        waiter = threading.Thread(target=wait)
        waiter.start()
        wait_until(_somebody_waits)
        home.remove_mountpoint(path)
    waiter.join(PATIENCE)
    assert seen == [True]
