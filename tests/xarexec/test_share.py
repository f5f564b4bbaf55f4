"""Where shared mounts are: whose directories are used, which lock counts, which files have which place."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerfs.errors import Corrupt, InvalidArgument, NotFound, Unsupported
from layerfs.sys import private
from layerfs.sys.ids import outside_id
from layerfs.xarexec import home, serve
from layerfs.xarexec.home import find_home, locked
from layerfs.xarexec.share import Package, examine, place
from tests.host import require
from tests.xars import make_xar, until

PATIENCE = 20  # s
HERE = b"uid-%d" % outside_id(os.geteuid())
NOBODY = 65534
NAMESPACE = os.stat("/proc/self/ns/mnt").st_ino


@pytest.fixture(autouse=True)
def needs(monkeypatch: pytest.MonkeyPatch, scratch: Path) -> None:
    require("mksquashfs")
    monkeypatch.setenv("LAYERFS_CACHE", str(scratch / "no cache"))
    for name in ("LAYERFS_XAR_PATH", "XAR_MOUNT_SEED", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def root(scratch: Path) -> Path:
    """A directory as /dev/shm is."""
    path = scratch / "root"
    path.mkdir()
    path.chmod(0o1777)
    return path


def home_in(root: Path) -> Path:
    return root / os.fsdecode(HERE)


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
        until(_somebody_waits)
        home.remove_mountpoint(path)
    waiter.join(PATIENCE)
    assert seen == [True]


def test_who_looks_at_a_mount_keeps_its_server(root: Path) -> None:
    path = bytes(root / "mountpoint")
    with locked(path):
        assert serve.leave(path, lambda: pytest.fail("asked without the lock")) is False


def test_a_mount_that_was_used_meanwhile_stays(root: Path) -> None:
    path = bytes(root / "mountpoint")
    assert serve.leave(path, lambda: False) is False
    with locked(path, wait=False):  # and the lock is free again
        pass


@pytest.fixture
def xar(scratch: Path, root: Path) -> Callable[..., Path]:
    def make(name: str, text: str = "", **words: object) -> Path:
        (scratch / name).parent.mkdir(exist_ok=True)
        return make_xar(scratch / name, {"text": text}, root=root, **words)  # type: ignore[arg-type]

    return make


def place_of(path: Path) -> Path:
    return Path(os.fsdecode(place(examine(bytes(path)))))


def test_a_place_is_named_by_uuid_and_namespace(xar: Callable[..., Path], root: Path) -> None:
    found = place_of(xar("a.xar"))
    assert found.parent == home_in(root)
    assert found.name.startswith("8f583eae-") and found.name.endswith(f"-ns-{NAMESPACE}")


def test_one_uuid_is_not_one_place(xar: Callable[..., Path]) -> None:
    assert place_of(xar("a.xar", "one")) != place_of(xar("b.xar", "other"))


def test_a_replaced_file_has_another_place(xar: Callable[..., Path]) -> None:
    before = place_of(xar("a.xar", "one"))
    after = place_of(xar("a.xar", "two"))
    assert before != after
    with open(xar("a.xar", "three"), "r+b") as file:
        third = place_of(Path(file.name))
        file.seek(8000)
        file.write(b"x")
    assert len({before, after, third, place_of(Path(file.name))}) == 4


def test_a_seed_makes_a_place_of_its_own(xar: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = xar("a.xar")
    monkeypatch.setenv("XAR_MOUNT_SEED", "mine")
    assert "-seed-mine-ns-" in place_of(path).name
    monkeypatch.setenv("XAR_MOUNT_SEED", "../mine")
    assert "seed" not in place_of(path).name


HEADER = b'#!/usr/bin/env xarexec_fuse\nOFFSET="4096"\nUUID="../../xx"\nVERSION="1"\n#xar_stop\n'
WRONG = {
    "no XAR at all": (b"text", InvalidArgument, "is not a XAR"),
    "a UUID that is a path": (HEADER, Corrupt, "UUID"),
}


@pytest.mark.parametrize(("content", "error", "said"), WRONG.values(), ids=WRONG)
def test_what_is_no_xar_has_no_place(content: bytes, error: type[Exception], said: str, scratch: Path) -> None:
    (scratch / "file").write_bytes(content.ljust(4096, b"\n") + b"hsqs")
    with pytest.raises(error, match=said):
        examine(bytes(scratch / "file"))


class Counted:
    """`resolve`, and how often it was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from layerfs.xar import graph

        self.calls = 0
        self._resolve = graph.resolve
        monkeypatch.setattr(graph, "resolve", self)

    def __call__(self, lowers: list[bytes], search: object) -> object:
        self.calls += 1
        return self._resolve(lowers, search)  # type: ignore[arg-type]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    yield Counted(monkeypatch)


@pytest.fixture
def diamond(xar: Callable[..., Path]) -> Path:
    for name, depends in {"A": "BC", "B": "D", "C": "D", "D": ""}.items():
        xar(f"x/{name}.xar", name, depends=[f"{other}.xar" for other in depends])
    return Path(os.fsdecode(examine(bytes(xar("x/none.xar"))).graph.lowers[0])).parent / "A.xar"


def names(package: Package) -> str:
    return "".join(chr(os.path.basename(lower)[0]) for lower in package.graph.lowers)


def test_a_graph_is_resolved_once(diamond: Path, counted: Counted) -> None:
    first = examine(bytes(diamond))
    assert names(first) == "ABCD"
    calls = counted.calls
    again = examine(bytes(diamond))
    assert counted.calls == calls
    assert again.is_same(first) and place(again) == place(first)
    assert examine(bytes(diamond), anew=True).is_same(first)
    assert counted.calls > calls


def test_a_changed_dependency_is_noticed(diamond: Path, xar: Callable[..., Path]) -> None:
    first = examine(bytes(diamond))
    xar("x/D.xar", "other")
    second = examine(bytes(diamond))
    assert not second.is_same(first) and place(second) != place(first)


def test_a_dependency_that_vanished_is_noticed(diamond: Path) -> None:
    examine(bytes(diamond))
    diamond.with_name("D.xar").unlink()
    with pytest.raises(NotFound, match=r"no D\.xar"):
        examine(bytes(diamond))


def test_a_second_candidate_is_noticed(
    diamond: Path, xar: Callable[..., Path], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scratch / "more").mkdir()
    monkeypatch.setenv("LAYERFS_XAR_PATH", str(scratch / "more"))
    examine(bytes(diamond))
    xar("more/D.xar", "not that of the others")
    with pytest.raises(InvalidArgument, match=r"D\.xar.* is ambiguous"):
        examine(bytes(diamond))


def test_another_search_path_is_noticed(
    diamond: Path, xar: Callable[..., Path], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine(bytes(diamond))
    xar("more/D.xar", "not that of the others")
    monkeypatch.setenv("LAYERFS_XAR_PATH", str(scratch / "more"))
    with pytest.raises(InvalidArgument, match=r"D\.xar.* is ambiguous"):
        examine(bytes(diamond))


def test_a_hard_link_elsewhere_has_a_neighbourhood_of_its_own(diamond: Path, scratch: Path) -> None:
    examine(bytes(diamond))
    (scratch / "y").mkdir()
    os.link(diamond, scratch / "y/A.xar")
    with pytest.raises(NotFound):
        examine(bytes(scratch / "y/A.xar"))


def test_a_broken_memo_is_none(diamond: Path, root: Path) -> None:
    first = examine(bytes(diamond))
    (memo,) = home_in(root).glob("*.graph")
    whole = memo.read_bytes()
    for size in (0, 1, 40, len(whole) // 2, len(whole) - 3):
        memo.write_bytes(whole[:size])
        assert examine(bytes(diamond)).is_same(first)


def test_starting_imports_nothing_heavy(xar: Callable[..., Path]) -> None:
    """Each start of a program in a XAR pays for what is imported until its mount is found."""
    program = f"""
import sys
from layerfs.xarexec import share
share.answers = lambda path: True
share.Shared = lambda path, package, fresh: path
from layerfs.cli import xar_exec, xar_mount
share.mount({bytes(xar("a.xar"))!r})
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"trio", "pyfuse3", "argparse", "dataclasses", "ctypes", "json", "hashlib", "subprocess", "logging"}
    assert set(done.stdout.split()) & heavy == set()
