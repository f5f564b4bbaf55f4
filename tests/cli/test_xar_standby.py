"""A XAR's mount is made by the process that stands by since the one before, and nobody can tell."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_program import STANDBY, name, parent, processes
from tests.host import BIN, require
from tests.waiting import PATIENCE, wait_until
from tests.xars import Desk

SWITCH = "LAYERFS_STANDBY"
TELL = '#!/bin/sh\necho "<$XARFUSE_NEW_MOUNT>"\n'


@pytest.fixture(autouse=True)
def _warm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)


def has_standby(desk: Desk) -> bool:
    """Tell whether a process stands by for the person at a desk."""
    return any(runtime(desk).glob("*.standby"))


def runtime(desk: Desk) -> Path:
    """The person's runtime directory. Where there is none they would ask who stands by for other tests, in /tmp."""
    assert desk.person is not None
    ours = Path(desk.person.environment()["XDG_RUNTIME_DIR"]) / "layerfs"
    if not ours.exists():
        desk.person.owns(ours)
        ours.chmod(0o700)
    return ours


def run(desk: Desk, *before: str, file: str = "a.xar", **env: str) -> int:
    """Run a XAR that is not mounted; return the pid of its server."""
    words = [*before, str(BIN / "xarexec_fuse"), file]
    words = desk.person.command(words) if desk.person else words
    around: dict[str, Any] = desk.around
    around["env"] = around["env"] | env
    done = subprocess.run(words, **around, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert (done.stdout, done.stderr) == ("<1>\n", "")
    (where,) = desk.mounts()
    return desk.server(where)


def unmount(desk: Desk, file: str = "a.xar", **env: str) -> None:
    desk.do("xar", "mount", "--unmount", file, env=env)


def run_warm(desk: Desk) -> int:
    """Run a XAR until a process that stands by mounts it; return the pid of its server."""
    desk.xar("a.xar", {"run": TELL})
    return mounted_warm(desk, lambda: run(desk))


def mounted_warm(desk: Desk, mount: Callable[[], int], file: str = "a.xar", **env: str) -> int:
    """Mount until a process that stands by does it; where that takes too long, on a busy machine, the caller does."""
    found: list[int] = []

    def is_warm() -> bool:
        found.append(mount())
        if name(parent(found[-1])) != STANDBY:
            unmount(desk, file, **env)
            return False
        return True

    wait_until(is_warm, "a process that stands by")
    return found[-1]


def test_the_second_mount_is_made_by_a_process_that_stands_by(desk: Desk) -> None:
    run_warm(desk)
    (where,) = desk.mounts()
    assert desk.read(where / "run") == TELL
    assert desk.do("xar", "exec", "a.xar") == "<>\n"
    unmount(desk)
    assert desk.mounts() == []


@pytest.mark.parametrize("words", [("xar", "exec"), ("xar", "mount")], ids=" ".join)
def test_every_program_asks_and_leaves_one(persons_desk: Desk, words: tuple[str, ...]) -> None:
    desk = persons_desk
    assert not has_standby(desk)
    desk.xar("a.xar", {"run": TELL})
    desk.do(*words, "a.xar")
    unmount(desk)
    wait_until(lambda: has_standby(desk))

    def mount() -> int:
        desk.do(*words, "a.xar")
        (where,) = desk.mounts()
        return desk.server(where)

    mounted_warm(desk, mount)


def test_a_mount_of_layers_leaves_one_for_xars(persons_desk: Desk) -> None:
    desk = persons_desk
    assert not has_standby(desk)
    desk.xar("a.xar", {"run": TELL})
    desk.do("-c", "import os; os.mkdir('lower'); os.mkdir('mnt')", program="python")
    desk.do("mount", "lower", "mnt", "--driver=fuse")
    desk.do("umount", "mnt")
    wait_until(lambda: has_standby(desk))
    mounted_warm(desk, lambda: run(desk))


def facts(pid: int) -> dict[str, object]:
    """What a server is, as far as it could differ from one that was forked."""
    proc = Path(f"/proc/{pid}")
    told = "Umask|Uid|Gid|Groups|Sig(Blk|Ign|Cgt)|Cap...|NoNewPrivs|Seccomp|Cpus_allowed"
    lines = re.findall(rf"^(?:{told}):.*$", (proc / "status").read_text(), re.MULTILINE)
    kinds = sorted(re.sub(r"[\[(\d].*", "", os.readlink(link)) for link in (proc / "fd").iterdir())
    return {
        "limits": (proc / "limits").read_text(),
        "cwd": os.readlink(proc / "cwd"),
        "root": os.readlink(proc / "root"),
        "cgroup": (proc / "cgroup").read_text(),
        "namespaces": {link.name: os.readlink(link) for link in (proc / "ns").iterdir()},
        "oom": (proc / "oom_score_adj").read_text(),
        "nice": (proc / "stat").read_text().rpartition(")")[2].split()[16],
        "status": lines,
        "descriptors": kinds,
        "leads its session": os.getsid(pid) == pid,
    }


def test_a_server_is_as_without(desk: Desk) -> None:
    require("root")
    warm = run_warm(desk)
    wait_until(lambda: "/dev/null" in os.readlink(f"/proc/{warm}/fd/0"))
    found = facts(warm)
    unmount(desk)
    cold = run(desk, LAYERFS_STANDBY="no")
    assert name(parent(cold)) != STANDBY
    assert found == facts(cold)


def test_dependencies_are_looked_for_as_the_caller_would(persons_desk: Desk) -> None:
    """By its environment, and from its working directory."""
    desk = persons_desk
    run_warm(desk)
    unmount(desk)
    (desk.base / "libs").mkdir(mode=0o755)
    desk.xar("libs/lib.xar", {"text": "below\n"}, target=None)
    desk.xar("b.xar", {"run": TELL}, depends=["lib.xar"])
    env = {"LAYERFS_XAR_PATH": "libs"}
    mounted_warm(desk, lambda: run(desk, file="b.xar", **env), "b.xar", **env)
    (where,) = desk.mounts()
    assert desk.read(where / "text") == "below\n"


def test_killed_it_takes_no_mount_with_it_and_the_next_leaves_another(persons_desk: Desk) -> None:
    pid = run_warm(persons_desk)
    require("root")
    os.kill(parent(pid), signal.SIGKILL)
    assert persons_desk.do("xar", "exec", "a.xar") == "<>\n"
    unmount(persons_desk)
    assert name(parent(run(persons_desk))) != STANDBY
    unmount(persons_desk)
    run_warm(persons_desk)


@pytest.mark.parametrize(
    "before",
    [
        ("prlimit", "--nofile=1000:1000"),
        ("nice", "-n", "5"),
        ("env", "PYTHONHASHSEED=1"),
        ("env", "LAYERFS_STANDBY=no"),
    ],
    ids=" ".join,
)
def test_nobody_stands_by_for_who_is_otherwise(persons_desk: Desk, before: tuple[str, ...]) -> None:
    run_warm(persons_desk)
    unmount(persons_desk)
    assert name(parent(run(persons_desk, *before))) != STANDBY


@pytest.fixture
def stopped(persons_desk: Desk) -> Iterator[int]:
    require("root")
    standby = parent(run_warm(persons_desk))
    unmount(persons_desk)
    os.kill(standby, signal.SIGSTOP)
    yield standby
    os.kill(standby, signal.SIGCONT)


def test_one_that_was_stopped_is_not_waited_for_and_keeps_nothing(persons_desk: Desk, stopped: int) -> None:
    """It was sent the lock, and the pipes of whoever asked: the end of their output never came."""
    assert name(parent(run(persons_desk))) != STANDBY
    assert persons_desk.do("xar", "exec", "a.xar") == "<>\n"  # the lock, which it was sent, is free
    os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: not any(parent(pid) == stopped for pid in processes()))  # it was asked, and mounts nothing
    assert len(persons_desk.mounts()) == 1
    unmount(persons_desk)
    assert persons_desk.mounts() == []


def test_errors_are_those_of_who_mounts_alone(persons_desk: Desk) -> None:
    desk = persons_desk
    run_warm(desk)
    unmount(desk)
    broken = desk.xar("broken.xar", {"run": TELL})
    broken.write_bytes(broken.read_bytes()[:4096] + bytes(4096))
    desk.xar("lacking.xar", {"run": TELL}, depends=["absent.xar"])
    for file in ("broken.xar", "lacking.xar", "absent.xar"):
        warm, cold = (desk.run("xar", "exec", file, env=env) for env in ({}, {"LAYERFS_STANDBY": "no"}))
        assert warm.returncode != 0 and warm.stderr.startswith("layerfs: ")
        assert (warm.returncode, warm.stdout, warm.stderr) == (cold.returncode, cold.stdout, cold.stderr)
    assert desk.mounts() == []


def test_a_program_has_no_child_that_it_does_not_know(persons_desk: Desk) -> None:
    desk = persons_desk
    assert not has_standby(desk)
    desk.xar("a.xar", {"run": TELL})
    run(desk)
    unmount(desk)
    wait_until(lambda: has_standby(desk))
    desk.xar("b.xar", {"run": "#!/bin/sh\nread children </proc/$$/task/$$/children; echo $children.\n"})
    assert desk.do("xar", "exec", "b.xar") == ".\n"
