"""What the registry writes, and what it makes of what others write."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.model import Driver, Stack
from layerfs.mounts import registry
from layerfs.mounts.registry import MountRecord, birth, mount_id
from layerfs.sys import private, process_id
from layerfs.sys.mounts import mountinfo
from layerfs.value import replace
from tests.host import require

RECORD = MountRecord(
    mountpoint=b"/mnt/\xff name",
    mount_id=4242,
    namespace=registry.namespace(),
    driver=Driver.FUSE,
    why="because",
    stack=Stack((b"/a\n", b"/b"), b"/u", b"/w"),
    pid=os.getpid(),
    born=birth(os.getpid()),
    started=1.5,
    options="rw,noatime",
    log=b"/tmp/log",
)


@pytest.fixture(autouse=True)
def runtime(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime directory of the test's own."""
    (scratch / "run").mkdir()
    monkeypatch.setattr(private, "SYSTEM", os.fsencode(scratch / "run"))
    monkeypatch.setattr(private, "SHARED", os.fsencode(scratch / "run"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(scratch))
    return Path(os.fsdecode(private.runtime_directory()))


def test_an_entry_comes_back_as_it_was() -> None:
    registry.save(RECORD)
    assert registry.records() == [RECORD]


def test_an_entry_without_upper_and_log_comes_back_as_it_was() -> None:
    record = replace(RECORD, stack=Stack((b"/a",)), log=None, driver=Driver.KERNEL, pid=0, born=0)
    registry.save(record)
    assert registry.records() == [record]


def test_a_saved_entry_leaves_no_draft(runtime: Path) -> None:
    registry.save(RECORD)
    assert [path.name for path in runtime.iterdir()] == ["4242-1500000.json"]


def test_entries_are_listed_oldest_first() -> None:
    newer = replace(RECORD, mount_id=1, started=2.5)
    registry.save(newer)
    registry.save(RECORD)
    assert registry.records() == [RECORD, newer]


def test_a_mount_that_got_the_id_of_one_that_is_still_served_has_its_own_entry() -> None:
    """It overwrote the other's: `status` did not know a server that still wrote back."""
    successor = replace(RECORD, started=2.5)
    registry.save(successor)
    registry.save(RECORD)
    assert registry.records() == [RECORD, successor]
    assert registry.current() == {4242: successor}
    registry.prune()
    assert registry.records() == [RECORD, successor]
    registry.remove(RECORD)
    assert registry.records() == [successor]


def test_what_had_the_id_of_a_mount_before_and_has_no_server_is_pruned() -> None:
    mounted = mountinfo()[0].id
    dead = replace(RECORD, born=RECORD.born + 1, mount_id=mounted)
    successor = replace(RECORD, started=2.5, mount_id=mounted)
    for record in (dead, successor):
        registry.save(record)
    registry.prune()
    assert registry.records() == [successor]


def test_records_are_read_only_where_a_mount_is_not_there_or_is_named_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    here = replace(RECORD, mount_id=mountinfo()[0].id)
    registry.save(here)
    pruned: list[bool] = []
    monkeypatch.setattr(registry, "prune", lambda: pruned.append(True))
    registry.prune_if_need_be()
    assert not pruned
    registry.save(replace(here, started=2.5))
    registry.prune_if_need_be()
    assert len(pruned) == int(True)
    registry.remove(here)
    registry.save(RECORD)
    registry.prune_if_need_be()
    assert pruned == [True, True]


def test_removing_takes_the_entry_and_never_its_successor() -> None:
    successor = replace(RECORD, started=2.5)
    registry.save(successor)
    registry.remove(RECORD)
    assert registry.records() == [successor]
    registry.remove(successor)
    registry.remove(successor)
    assert registry.records() == []


def test_pruning_takes_what_has_neither_server_nor_mount() -> None:
    mounted = mountinfo()[0].id
    dead = replace(RECORD, born=RECORD.born + 1)
    kernels = replace(RECORD, pid=0, born=0)
    kept = [replace(dead, mount_id=mounted), RECORD, replace(kernels, mount_id=4243, namespace=1)]
    for record in (*kept, replace(dead, mount_id=4244), replace(kernels, mount_id=4245)):
        registry.save(record)
    registry.prune()
    assert set(registry.records()) == set(kept)


@pytest.fixture
def elsewhere() -> Iterator["subprocess.Popen[bytes]"]:
    """A process in a mount namespace and a pid namespace of its own; it lasts until its stdin is closed."""
    require("root")
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", "echo; read _"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"\n"
        yield process


def test_what_a_crash_left_in_another_mount_namespace_is_on_record_as_long_as_that_lasts(
    elsewhere: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever starts there anew does not know that the dead mount is one of ours, and does not clear it away."""
    monkeypatch.setattr(process_id, "FIRST_PIDS", process_id.pid_namespace())  # also in a container
    there = os.stat(f"/proc/{elsewhere.pid}/ns/mnt").st_ino
    dead = replace(RECORD, born=RECORD.born + 1, namespace=there)
    registry.save(dead)
    registry.prune()
    assert registry.records() == [dead]
    elsewhere.communicate(b"\n")
    registry.prune()
    assert registry.records() == []


def test_a_server_that_is_out_of_sight_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that shares the directory sees no server of its host, and must not forget what those serve."""
    hidden = replace(RECORD, pids=1, namespace=1, born=RECORD.born + 1)
    registry.save(hidden)
    monkeypatch.setattr(registry, "FIRST_PIDS", 0)  # as in a container, wherever this test runs
    assert (hidden.alive, hidden.is_of_these_pids) == (True, False)
    registry.prune()
    assert registry.records() == [hidden]
    monkeypatch.setattr(registry, "FIRST_PIDS", process_id.pid_namespace())  # where every process is in sight
    monkeypatch.setattr(process_id, "FIRST_PIDS", process_id.pid_namespace())
    assert not hidden.alive
    registry.prune()
    assert registry.records() == []


def test_a_directory_that_goes_while_it_is_read_holds_no_entries(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that had just started ended by that."""
    monkeypatch.setattr(registry, "runtime_directories", lambda: [bytes(runtime / "gone")])
    assert registry.records() == []
    registry.prune()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "{}", json.dumps({"mountpoint": 3}), '{"stack": {}, "log": null}']
)
def test_a_file_that_is_no_entry_is_passed_over(runtime: Path, text: str) -> None:
    (runtime / "7.json").write_text(text)
    assert registry.records() == []


def test_a_directory_that_others_may_write_is_not_believed(runtime: Path) -> None:
    registry.save(RECORD)
    runtime.chmod(0o777)
    assert registry.records() == []


def test_a_directory_of_somebody_else_is_not_used(scratch: Path, runtime: Path) -> None:
    registry.save(RECORD)
    if os.geteuid() == 0:
        os.chown(runtime, 1, 1)
        assert registry.records() == []
        assert private.runtime_directory() == os.fsencode(scratch / "layerfs")
    assert runtime.stat().st_mode & 0o777 == 0o700


def test_a_symlink_is_not_a_runtime_directory(scratch: Path, runtime: Path) -> None:
    runtime.rename(scratch / "real")
    runtime.symlink_to(scratch / "real")
    assert private.runtime_directory() != os.fsencode(runtime)


def test_alive_means_this_very_process() -> None:
    assert RECORD.alive
    assert not replace(RECORD, born=RECORD.born + 1).alive
    assert not replace(RECORD, pid=2**22 + 1).alive
    assert replace(RECORD, pid=0, born=0).alive


def test_a_zombie_is_not_alive() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert birth(pid) == 0
    os.waitpid(pid, 0)


def test_a_mount_id_is_the_one_in_mountinfo() -> None:
    with open("/proc/self/mountinfo", "rb") as table:
        ids = {line.split()[4]: int(line.split()[0]) for line in table}
    assert mount_id(b"/proc") == ids[b"/proc"]
