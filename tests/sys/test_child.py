"""A command below us: what it is told, and what its end is called."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from layerfs.sys.child import CANNOT_RUN, NOT_FOUND, as_shell, candidates, reason, status_of
from tests.waiting import PATIENCE

WAITS = """
import os, signal, sys
from layerfs.sys import child
mask = child.hold_signals()
pid = os.fork()
if pid == 0:
    child.execute(tuple(map(os.fsencode, sys.argv[1:])), dict(os.environb), mask)
sys.exit(child.wait_forwarding(pid))
"""


def start(*command: str, **options: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-c", WAITS, *command], stdout=subprocess.PIPE, text=True, **options
    )


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_exit_status_is_a_shells() -> None:
    assert [as_shell(code) for code in (0, 7, -signal.SIGKILL, -signal.SIGTERM)] == [0, 7, 137, 143]


def test_status_and_output_of_the_command_come_through() -> None:
    with start("sh", "-c", "echo said; exit 7") as process:
        assert (process.stdout and process.stdout.read(), process.wait(timeout=PATIENCE)) == ("said\n", 7)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_of_other_processes_reach_the_command(number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 5' {number.name.removeprefix('SIG')}; echo up; while :; do sleep 0.05; done"
    with start("sh", "-c", script) as process:
        assert line(process) == "up\n"
        process.send_signal(number)
        assert (line(process), process.wait(timeout=PATIENCE)) == ("got\n", 5)


def test_command_starts_with_the_callers_mask_and_pythons_ignored_signals_at_their_default() -> None:
    with start("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status") as process:
        said = process.stdout.read().split() if process.stdout else []
        assert said[::2] == ["SigBlk:", "SigIgn:"]
        # 32 and 33 are the C library's own: it may have them blocked while it forks.
        assert [int(mask, 16) & ~(3 << 31) for mask in said[1::2]] == [0, 0]


def test_status_survives_a_caller_that_ignores_sigchld() -> None:
    """A parent that ignores SIGCHLD hands that on, and the kernel then throws children's statuses away."""
    with start("sh", "-c", "exit 3", preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)) as process:
        assert process.wait(timeout=PATIENCE) == 3


def test_command_is_looked_for_on_the_path() -> None:
    assert candidates(b"ls", b"/a::/b") == [b"/a/ls", b"./ls", b"/b/ls"]
    assert candidates(b"./ls", b"/a") == [b"./ls"]


def test_missing_interpreter_is_told_from_a_missing_command(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/nowhere/sh\n")
    script.chmod(0o755)
    with pytest.raises(FileNotFoundError) as caught:
        os.execve(os.fsencode(script), [b"script"], {})
    assert reason(caught.value) == "its interpreter or loader is missing in the tree"
    assert reason(FileNotFoundError(errno.ENOENT, "not found", b"nope")) == "not found"


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ENOENT, NOT_FOUND),
        (errno.ENOTDIR, NOT_FOUND),
        (errno.EACCES, CANNOT_RUN),
        (errno.ENOEXEC, CANNOT_RUN),
    ],
)
def test_command_that_cannot_be_run_has_a_shells_status(number: int, status: int) -> None:
    assert status_of(OSError(number, "")) == status
