"""What two processes have in common, as `cli/program.c` reads it too."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from layerfs.sys import peer
from tests.host import PROJECT, require


def test_a_child_is_like_its_parent_until_it_is_not() -> None:
    own = peer.identity(os.getpid())
    program = "import os, sys; sys.stdin.read(1); os.nice(3); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin and child.stdout
        assert peer.identity(child.pid) == own
        child.stdin.write(b"x")
        child.stdin.flush()
        child.stdout.readline()
        assert peer.identity(child.pid) != own
        child.stdin.close()


def test_the_other_end_of_a_connection_is_known() -> None:
    for end in (ends := socket.socketpair()):
        assert peer.at(end) == (os.getpid(), os.geteuid())
    for end in ends:
        end.close()


def test_a_process_that_is_gone_is_like_nobody() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    with pytest.raises(OSError):
        peer.identity(child.pid)


def test_namespaces_limits_ids_and_priority_are_in_it() -> None:
    text = peer.identity(os.getpid())
    for part in (b"ns/mnt mnt:[", b"ns/user user:[", b"Max open files", b"Uid:\t", b"CapEff:\t", b"Seccomp:\t"):
        assert part in text


def test_a_neighbour_is_in_our_mount_namespace_and_not_called_as_we_do_not_want() -> None:
    require("root")
    program = (
        "from layerfs.sys import peer\nfd = peer.neighbour(b'sleep')\nprint(open(f'/proc/self/fdinfo/{fd}').read())"
    )
    alone = ["unshare", "--mount", "sh", "-c", 'sleep 1000 & "$@"; code=$?; kill $!; exit $code', "sh"]
    words = [sys.executable, "-c", program]
    shell = subprocess.run([*alone, *words], capture_output=True, text=True, check=True).stdout
    assert "Pid:" in shell  # the shell
    with_exec = ["unshare", "--mount", "sh", "-c", 'sleep 2 >/dev/null 2>&1 & exec "$@"', "sh"]
    nobody = subprocess.run([*with_exec, *words], capture_output=True, text=True, check=False)
    assert "ProcessLookupError" in nobody.stderr


@pytest.mark.parametrize("apart", [False, True], ids=["host", "namespace"])
def test_who_may_not_be_looked_at_is_a_neighbour_unless_we_are_in_a_namespace_of_our_own(apart: bool) -> None:
    require("root", "userns")
    program = "from layerfs.sys import peer; print(peer.neighbour(b'x') > 0)"
    person = ["setpriv", "--reuid=4321", "--regid=4321", "--clear-groups"]
    enter = ["unshare", "--user", "--map-root-user", "--mount"] if apart else []
    done = subprocess.run(
        [*person, *enter, sys.executable, "-c", program],
        cwd=PROJECT, env={"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ("ProcessLookupError" in done.stderr, done.stdout) == ((True, "") if apart else (False, "True\n"))


def test_a_zombie_that_may_not_be_looked_at_is_no_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end would be told again and again."""
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    look = os.stat

    def refuse(path: str) -> os.stat_result:
        if path == f"/proc/{child.pid}/ns/mnt":
            raise PermissionError
        return look(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", lambda _: [str(child.pid)])
        patch.setattr(os, "stat", refuse)
        patch.setattr(os, "geteuid", lambda: 4321)
        with pytest.raises(ProcessLookupError):
            peer.neighbour(b"x")
    child.wait()


def test_a_program_is_another_after_it_was_installed_anew(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.touch()
    before = peer.program_line(os.fsencode(program))
    os.utime(program, (1, 1))
    assert peer.program_line(os.fsencode(program)) != before


def test_only_what_a_process_is_told_at_its_start_counts_of_an_environment() -> None:
    entries = [b"HOME=/root", b"LANG=C", b"PYTHONPATH=x", b"LD_PRELOAD=y", b"XLANG=z"]
    assert peer.environment_lines(entries) == b"LANG=C\nPYTHONPATH=x\nLD_PRELOAD=y\n"


def test_the_hash_is_fnv_1a() -> None:
    assert peer.short_name(b"") == "cbf29ce484222325"
    assert peer.short_name(b"foobar") == "85944171f73967e8"
