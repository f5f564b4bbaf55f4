"""`layerfs xar exec` and `xarexec_fuse`: the program in a XAR, as if it had been called itself."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.host import BIN
from tests.waiting import PATIENCE, wait_until
from tests.xars import Desk

SOON = "0.4"  # s without use
TELL = '#!/bin/sh\nfor word; do echo "<$word>"; done\n'
Call = tuple[str, tuple[str, ...]]  # a program of ours, and its first words
CALLS: dict[str, Call] = {"layerfs xar exec": ("layerfs", ("xar", "exec")), "xarexec_fuse": ("xarexec_fuse", ())}


@pytest.fixture(params=list(CALLS))
def call(request: pytest.FixtureRequest) -> Call:
    return CALLS[request.param]


def run(desk: Desk, call: Call, *words: str | Path, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    program, first = call
    return desk.run(*first, *words, program=program, stdin=stdin)


def test_arguments_reach_the_program_after_the_xars_name(desk: Desk, call: Call) -> None:
    desk.xar("a.xar", {"bin/run": TELL}, target="bin/run")
    done = run(desk, call, "a.xar", "two words", "", "-m", "--timeout", "*", "--", "$HOME")
    assert (done.returncode, done.stderr) == (0, "")
    words = ["a.xar", "two words", "", "-m", "--timeout", "*", "--", "$HOME"]
    assert done.stdout.splitlines() == [f"<{word}>" for word in words]


def test_the_first_dashes_only_divide(persons_desk: Desk) -> None:
    persons_desk.xar("a.xar", {"run": TELL})
    assert persons_desk.do("xar", "exec", "a.xar", "--", "--help", "--") == "<a.xar>\n<--help>\n<-->\n"
    assert persons_desk.do("a.xar", "--", "--help", program="xarexec_fuse") == "<a.xar>\n<-->\n<--help>\n"


def test_the_program_is_called_by_its_path_in_the_mount(persons_desk: Desk) -> None:
    xar = persons_desk.xar("a.xar", {"run": '#!/bin/sh\necho "$0"; pwd\n'})
    where = persons_desk.mount(xar)
    assert persons_desk.do("xar", "exec", xar) == f"{where}/run\n{persons_desk.base}\n"


def test_standard_streams_are_untouched(persons_desk: Desk, call: Call) -> None:
    text = "line\n" * 10_000
    done = run(persons_desk, call, persons_desk.xar("a.xar", {"run": "#!/bin/sh\necho oh >&2; exec cat\n"}), stdin=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, text, "oh\n")


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_the_status_is_the_programs(status: int, persons_desk: Desk, call: Call) -> None:
    xar = persons_desk.xar("a.xar", {"run": f"#!/bin/sh\nexit {status}\n"})
    assert run(persons_desk, call, xar).returncode == status


def test_a_signal_ends_the_program_itself(persons_desk: Desk) -> None:
    xar = persons_desk.xar("a.xar", {"run": "#!/bin/sh\necho $$; read _\n"})
    with persons_desk.started(xar, program="xarexec_fuse") as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        os.kill(pid, signal.SIGTERM)
        assert process.wait(PATIENCE) == -signal.SIGTERM
    assert pid == process.pid or persons_desk.person  # setpriv becomes us, we become the program


def test_signals_are_not_ignored_as_python_ignores_them(persons_desk: Desk) -> None:
    xar = persons_desk.xar("a.xar", {"run": "#!/bin/sh\nexec grep -E 'Sig(Ign|Blk)' /proc/self/status\n"})
    told = persons_desk.do("xar", "exec", xar)
    ours = ~(0b11 << 31)  # the C library has signals 32 and 33 for itself
    assert {int(line.split()[1], 16) & ours for line in told.splitlines()} == {0}


def test_a_new_mount_is_told_of(persons_desk: Desk) -> None:
    xar = persons_desk.xar("a.xar", {"run": '#!/bin/sh\necho "<$XARFUSE_NEW_MOUNT>"\n'})
    assert [persons_desk.do(xar, program="xarexec_fuse") for _ in range(2)] == ["<1>\n", "<>\n"]


def test_the_kernel_runs_an_executable_xar(desk: Desk) -> None:
    xar = desk.xar("a.xar", {"run": TELL.replace("done\n", "done; exit 3\n")})
    command: list[str | Path] = [xar, "two words", "-n"]
    words = desk.person.command(command) if desk.person else [str(word) for word in command]
    done = subprocess.run(words, **desk.around, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.splitlines() == [f"<{xar}>", "<two words>", "<-n>"]


PROGRAMS = {
    "a script for another interpreter": "#!/usr/bin/env python3\nimport sys; print(len(sys.argv))\n",
    "a script without a first line": "echo $#\n",  # that the reference runs with sh -e; neither is it executable
}


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_programs_of_all_kinds_run(text: str, persons_desk: Desk) -> None:
    said = persons_desk.do("xar", "exec", persons_desk.xar("a.xar", {"run": text}), "one")
    assert int(said) == 2 + text.startswith("#!")


def test_a_running_program_keeps_its_mount(desk: Desk) -> None:
    """Its interpreter may close the script and look for a file in the mount only later."""
    script = '#!/bin/sh\nexec sh -c \'echo ready; read _; cat "$1/late"\' sh "${0%/*}"\n'
    xar = desk.xar("a.xar", {"run": script, "late": "in time"})
    with desk.started("xar", "exec", "--timeout", SOON, xar) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        (where,) = desk.mounts()
        # An unused mount of the same patience that is made later, and goes, tells that the time has passed.
        clock = desk.mount(desk.xar("clock.xar", {"run": TELL}), "--timeout", SOON)
        wait_until(lambda: clock not in desk.mounts())
        assert desk.mounts() == [where]
        assert process.communicate("\n", timeout=PATIENCE)[0] == "in time"
    wait_until(lambda: desk.mounts() == [])


def test_only_the_mounts_root_is_inherited(persons_desk: Desk) -> None:
    xar = persons_desk.xar("a.xar", {"run": "#!/bin/sh\nexec ls -l /proc/self/fd\n"})
    where = persons_desk.mount(xar)
    lines = persons_desk.do("xar", "exec", xar).splitlines()[1:]
    links = {int(line.split(" -> ")[0].split()[-1]): line.split(" -> ")[1] for line in lines}
    beyond = {fd: target for fd, target in links.items() if fd > 2 and not target.endswith("/fd")}
    assert list(beyond.values()) == [str(where)]
    assert min(beyond) >= 10  # shells let scripts use the others


def test_programs_with_dependencies_see_them(persons_desk: Desk) -> None:
    persons_desk.xar("lib.xar", {"text": "from below\n"}, target=None)
    xar = persons_desk.xar("a.xar", {"run": '#!/bin/sh\nexec cat "${0%/*}/text"\n'}, depends=["lib.xar"])
    assert persons_desk.do(xar, program="xarexec_fuse") == "from below\n"


WRONG = {
    "no target": ({"target": None}, 1, "names no XAREXEC_TARGET"),
    "a target that is not there": ({"target": "absent"}, 127, "/absent: not found"),
    "a target that is a directory": ({"target": "dir"}, 126, "/dir: Permission denied"),
}


@pytest.mark.parametrize(("words", "status", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_run_is_said(words: dict[str, str], status: int, said: str, persons_desk: Desk, call: Call) -> None:
    done = run(persons_desk, call, persons_desk.xar("a.xar", {"run": TELL, "dir/file": ""}, **words))
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("layerfs: ") and said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [(), ("-x",), ("-m",), ("-mx", "file")])
def test_xarexec_fuse_shows_its_usage(words: tuple[str, ...]) -> None:
    done = subprocess.run([BIN / "xarexec_fuse", *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: xarexec_fuse [-m | -n] FILE")
    asked = subprocess.run([BIN / "xarexec_fuse", "-h"], capture_output=True, text=True, check=True)
    assert asked.stdout == done.stderr


def test_a_xar_without_a_target_is_not_mounted_to_be_run(persons_desk: Desk, call: Call) -> None:
    """It was mounted first, and stayed so for a quarter of an hour."""
    assert run(persons_desk, call, persons_desk.xar("a.xar", {"data": ""}, target=None)).returncode == 1
    assert persons_desk.mounts() == []


def test_whoever_runs_a_xar_may_use_what_only_its_owner_could(persons_desk: Desk, call: Call) -> None:
    """It belongs to nobody: what was packed under umask 077 could be run and read by nobody either."""
    tree = persons_desk.base / "tree"
    (tree / "closed").mkdir(parents=True)
    (tree / "run").write_text('#!/bin/sh\ncat "${0%/*}/closed/words"\n')
    (tree / "closed/words").write_text("words\n")
    for name, mode in {"run": 0o700, "closed/words": 0o600, "closed": 0o700}.items():
        (tree / name).chmod(mode)
    if persons_desk.person:
        command = ["chown", "-R", str(persons_desk.person.uid), str(tree)]
        subprocess.run(command, check=True, timeout=PATIENCE)
    words = ["xar", "build", "tree", "-o", "a.xar", "--target", "run", "--mount-root", str(persons_desk.root)]
    assert persons_desk.run(*words).returncode == 0
    done = run(persons_desk, call, "a.xar")
    assert (done.returncode, done.stdout, done.stderr) == (0, "words\n", "")


def test_nobody_else_sees_a_mount_without_checks(persons_desk: Desk) -> None:
    where = persons_desk.mount(persons_desk.xar("a.xar", {"run": TELL}))
    if persons_desk.person and os.geteuid() == 0:
        with pytest.raises(PermissionError):
            os.listdir(where)


@pytest.mark.parametrize("mask", ["0177", "0777"])
def test_the_callers_umask_is_for_the_program_alone(persons_desk: Desk, mask: str) -> None:
    """Under umask 0177 neither this start nor any later one worked."""
    xar = persons_desk.xar("a.xar", {"run": "#!/bin/sh\numask\n"})
    command = persons_desk.command(xar, program="xarexec_fuse")
    words = ["sh", "-c", 'umask "$0"; exec "$@"', mask, *command]
    for _ in range(2):
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, **persons_desk.around)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{mask}\n", "")
    assert persons_desk.do(xar, program="xarexec_fuse") == "0022\n"


def test_the_callers_limit_of_descriptors_is_the_programs(persons_desk: Desk) -> None:
    """Who made the mount had raised it, and so had the program: at its first start only."""
    xar = persons_desk.xar("a.xar", {"run": "#!/bin/sh\nulimit -S -n\n"})
    command = persons_desk.command(xar, program="xarexec_fuse")
    words = ["sh", "-c", 'ulimit -S -n 512; LAYERFS_STANDBY=no exec "$@"', "sh", *command]
    for _ in range(2):
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, **persons_desk.around)
        assert (done.stdout, done.stderr) == ("512\n", "")


@pytest.mark.parametrize("limit", [12, 13, 14])
def test_a_server_that_cannot_start_is_an_error_and_stops_no_later_start(persons_desk: Desk, limit: int) -> None:
    """Its mount was gone again, and the target was said to be missing (status 127)."""
    xar = persons_desk.xar("a.xar", {"run": "#!/bin/sh\necho ran\n"})
    command = persons_desk.command(xar, program="xarexec_fuse")
    words = ["sh", "-c", 'ulimit -n "$0"; exec "$@"', str(limit), *command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, **persons_desk.around, check=False)
    if (done.returncode, done.stdout) != (0, "ran\n"):  # who may raise limits does
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("layerfs: ")
    assert persons_desk.do(xar, program="xarexec_fuse") == "ran\n"
