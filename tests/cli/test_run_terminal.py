"""`layerfs run` on a terminal, and what its command finds in its environment."""

import os
import pty
import select
import subprocess
import time
from pathlib import Path

import pytest

from layerfs.model import Stack
from layerfs.mounts.sandbox import environment, with_upper
from layerfs.sys.child import DEFAULT_PATH
from tests.cli.scene import Scene, a_long_time, processes
from tests.host import require
from tests.waiting import PATIENCE, wait_until


class Terminal:
    """A command on a terminal of its own, as a terminal emulator starts it; closed at the end whatever happens."""

    def __init__(self, scene: Scene, *words: str) -> None:
        around = scene.around
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(around["cwd"])
            command = scene.command(*words)
            os.execvpe(command[0], command, around["env"])
        self.seen = b""
        self.status: int | None = None

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_what: object) -> None:
        os.close(self.fd)
        if self.status is None:
            self.end()  # the hangup ends it

    def expect(self, text: bytes) -> None:
        patience = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert time.monotonic() < patience, self.seen
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 4096)
        self.seen = self.seen.split(text, 1)[1]

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def end(self) -> int:
        wait_until(self._has_ended)
        assert self.status is not None
        return self.status

    def _has_ended(self) -> bool:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.status = os.waitstatus_to_exitcode(status)
        return bool(pid)


@pytest.mark.parametrize("words", [(), ("--root",)])
def test_interrupt_key_reaches_the_command_once(rootless: Scene, words: tuple[str, ...]) -> None:
    seconds = a_long_time()
    script = f"trap 'echo caught' INT; echo up; sleep {seconds}; echo after; sleep 0.3; exit 9"
    with Terminal(rootless, *words, "--", "sh", "-c", script) as terminal:
        terminal.expect(b"up")
        wait_until(lambda: processes("sleep", seconds) != [])
        terminal.type(b"\x03")
        terminal.expect(b"caught")
        terminal.expect(b"after")
        assert terminal.end() == 9
        assert b"caught" not in terminal.seen


def test_stop_key_and_job_control_work_in_a_shell(rootless: Scene) -> None:
    require("bash")
    with Terminal(rootless, "--", "bash", "--norc", "--noprofile", "-i") as terminal:
        terminal.expect(b"# ")
        seconds = a_long_time()
        terminal.type(f"sleep {seconds}\n".encode())
        wait_until(lambda: state_of("sleep", seconds) == "S+")
        terminal.type(b"\x1a")
        terminal.expect(b"Stopped")
        terminal.type(b"fg\n")
        wait_until(lambda: state_of("sleep", seconds) == "S+")
        terminal.type(b"\x03")
        wait_until(lambda: processes("sleep", seconds) == [])
        terminal.type(b"exit 4\n")
        assert terminal.end() == 4


def state_of(*command: str) -> str:
    """The state of the only process with this command line, with + in the foreground of its terminal (ps(1))."""
    done = subprocess.run(["ps", "-o", "stat=", *map(str, processes(*command))], capture_output=True, text=True)
    return done.stdout.strip()


def test_closed_terminal_ends_the_command(rootless: Scene) -> None:
    seconds = a_long_time()
    with Terminal(rootless, "--", "sleep", seconds):
        wait_until(lambda: processes("sleep", seconds) != [])
    assert processes("sleep", seconds) == []


def test_terminal_has_a_name_in_the_tree(rootless: Scene) -> None:
    with Terminal(rootless, "--root", "--", "tty") as terminal:
        terminal.expect(b"/dev/console")
        assert terminal.end() == 0


def test_environment_names_the_tree_and_keeps_the_rest() -> None:
    given = {b"PATH": b"/usr/bin:/opt/bin", b"HOME": b"/home/ann", b"TMPDIR": b"/scratch", b"LANG": b"C"}
    assert environment(b"/tree", given) == given | {b"LAYERFS_ROOT": b"/tree", b"LAYERFS_TREE": b"/tree"}
    inside = environment(b"/", given)
    assert inside[b"PATH"].split(b":")[:2] == [b"/usr/bin", b"/opt/bin"]
    assert set(DEFAULT_PATH.split(b":")) <= set(inside[b"PATH"].split(b":"))
    assert (inside[b"HOME"], inside[b"LANG"], inside.get(b"TMPDIR")) == (b"/root", b"C", None)


def test_upper_in_memory_looks_like_the_top_layer(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top").chmod(0o1751)
    stack = with_upper(Stack((os.fsencode(tmp_path / "top"),)), os.fsencode(tmp_path))
    assert (tmp_path / "upper").stat().st_mode & 0o7777 == 0o1751
    assert stack.upper == os.fsencode(tmp_path / "upper")
