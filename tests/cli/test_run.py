"""`layerfs run` for real: as root and as a person, by the kernel and by FUSE, with a terminal and without."""

import errno
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from layerfs.errors import Unsupported
from layerfs.mounts import sandbox
from tests.cli.scene import Scene, a_long_time, processes
from tests.conftest import a_scratch
from tests.host import BIN, require
from tests.waiting import PATIENCE, wait_until


def test_command_starts_in_the_merged_tree_and_writes_reach_no_layer(scene: Scene) -> None:
    script = 'cat common; test "$PWD" = "$LAYERFS_ROOT" && echo here; echo new >new; rm hidden common; mkdir d; ls'
    assert scene.shell(script) == ["top", "here", "bin", "d", "etc", "new", "root"]
    assert sorted(os.listdir(scene.place / "bottom")) == ["bin", "common", "etc", "hidden", "root"]
    assert os.listdir(scene.place / "top") == ["common"]


def test_upper_keeps_what_was_written_and_nothing_of_ours(scene: Scene) -> None:
    scene.make("upper", "work")
    words = ("--upper", "upper", "--work", "work", "--root")
    scene.shell("echo new >/new; mkdir /d; echo deep >/d/file", *words)
    kept = {str(path.relative_to(scene.place / "upper")) for path in (scene.place / "upper").rglob("*")}
    assert kept - {"etc"} == {"new", "d", "d/file"}
    assert scene.shell("cat /new /d/file", *words) == ["new", "deep"]


def test_root_is_the_tree_with_its_own_proc_dev_and_sys(scene: Scene) -> None:
    script = "ls /; id -u; cat /proc/1/comm >/dev/null && echo $$; test -e /sys/kernel && echo sys; echo $LAYERFS_ROOT"
    lines = scene.shell(script, "--root")
    assert lines[:8] == ["bin", "common", "dev", "etc", "hidden", "proc", "root", "sys"]
    number, process, *rest = lines[8:]
    assert number == "0"
    assert int(process) < 10
    assert rest == ["sys", "/"]


def test_devices_of_the_tree_work_and_are_the_safe_ones(scene: Scene) -> None:
    script = (
        "ls /dev; echo x >/dev/null; test -c /dev/zero; echo shared >/dev/shm/x; cat /dev/shm/x; ls /dev/pts;"
        " (echo y >/sys/new) 2>/dev/null || echo 'sys is read-only'"
    )
    lines = scene.shell(script, "--root")
    devices = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero".split()
    assert lines == [*devices, "shared", "ptmx", "sys is read-only"]


def test_resolver_is_the_hosts_and_read_only(scene: Scene) -> None:
    lines = scene.shell("cat /etc/resolv.conf; (echo x >>/etc/resolv.conf) 2>/dev/null || echo refused", "--root")
    assert lines == [*Path("/etc/resolv.conf").read_text().splitlines(), "refused"]


def test_pids_are_the_commands_own(scene: Scene) -> None:
    lines = scene.shell("for p in /proc/[0-9]*; do cat $p/comm; done")
    assert lines[0] == "layerfs"
    assert "sh" in lines
    assert len(lines) < 6


@pytest.mark.parametrize("words", [(), ("--root",)])
@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_exit_status_is_the_commands(scene: Scene, words: tuple[str, ...], script: str, status: int) -> None:
    assert scene.run(*words, "--", "sh", "-c", script).returncode == status


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("nope", 127, "cannot run nope: not found"),
        ("/nope", 127, "cannot run /nope: not found"),
        ("/common", 126, "cannot run /common: Permission denied"),
        ("/script", 127, "cannot run /script: its interpreter or loader is missing in the tree"),
    ],
)
def test_command_that_cannot_be_run_has_one_sentence(rootless: Scene, command: str, status: int, said: str) -> None:
    script = rootless.place / "top/script"
    script.write_text("#!/nowhere/interpreter\n")
    script.chmod(0o755)
    done = rootless.run("--root", "--", command)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", f"layerfs: {said}\n")


def test_background_processes_end_with_the_command(scene: Scene) -> None:
    seconds = a_long_time()
    assert scene.shell(f"sleep {seconds} & echo started") == ["started"]
    assert processes("sleep", seconds) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_command(scene: Scene, number: signal.Signals) -> None:
    trap = f"trap 'echo got; exit 5' {number.name.removeprefix('SIG')}; echo up; while :; do sleep 0.05; done"
    with scene.start("--", "sh", "-c", trap) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert (process.stdout.readline(), process.wait(PATIENCE)) == ("got\n", 5)


def test_killed_caller_takes_everything_along(rootless: Scene) -> None:
    seconds = a_long_time()
    with rootless.start("--", "sleep", seconds) as process:
        wait_until(lambda: processes("sleep", seconds) != [])
        process.kill()
        process.wait(PATIENCE)
        wait_until(lambda: processes("sleep", seconds) == [])
    assert len(os.listdir(rootless.place / "tmp")) == 1
    rootless.shell("true")
    assert os.listdir(rootless.place / "tmp") == []  # the next one swept up


def test_person_is_root_inside_and_their_ranges_follow(rootless: Scene) -> None:
    lines = rootless.shell("id -u; cat /proc/self/uid_map; echo x >mine; stat -c %u mine")
    assert rootless.person
    assert (lines[0], lines[-1]) == ("0", "0")
    assert lines[1].split() == ["0", str(rootless.person.uid), "1"]
    assert len(lines) == 4


def test_kernel_overlayfs_serves_without_root_where_it_can(rootless: Scene) -> None:
    (line,) = rootless.shell("grep ' / / ' /proc/self/mountinfo", "--root")
    assert " - overlay layerfs rw" in line
    assert "userxattr" in line


def test_fuse_takes_over_where_the_kernel_refuses(rootless: Scene) -> None:
    """More lowers than kernel overlayfs takes: 500."""
    require("fuse")
    names = [f"many/{number}" for number in range(501)]
    for name in names:
        (rootless.place / name).mkdir(parents=True)
    lines = rootless.shell("grep -c fuse.layerfs /proc/self/mountinfo; cat common", *names, "--root")
    assert lines == ["1", "top"]
    done = rootless.run(*names, "--driver", "kernel", "--", "true")
    assert done.returncode == 1
    assert done.stderr == "layerfs: kernel overlayfs takes 500 lowers, not 503 (hint: use --driver=fuse)\n"


def test_host_that_refuses_user_namespaces_is_told_of(rootless: Scene) -> None:
    require("root")
    refuse = 'echo 0 >/proc/sys/user/max_user_namespaces; exec setpriv --inh-caps=-all --bounding-set=-all "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", refuse, "sh", str(BIN / "layerfs")]
    stack = ["run", str(rootless.place / "top"), str(rootless.place / "bottom"), "--", "true"]
    done = subprocess.run([*command, *stack], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        "this host does not let you make user namespaces: No space left on device (hint: `layerfs mount" in done.stderr
    )


def test_host_that_lets_nobody_mount_in_them_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """As AppArmor does on Ubuntu: the namespace is made, and has no rights."""

    def refuse(*_what: object, **_how: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(sandbox, "unshare", lambda _spaces: None)
    monkeypatch.setattr(sandbox, "make_private", refuse)
    with pytest.raises(Unsupported, match=r"but not mount in them \(hint: as root: sysctl kernel"):
        sandbox.enter_mounts(b"/nowhere")


def test_run_within_run(rootless: Scene) -> None:
    person = rootless.person
    assert person
    inner = f"{BIN / 'layerfs'} run top -- cat common"
    command = [str(BIN / "layerfs"), "run", "top", "--", "/bin/sh", "-c", f"cd {rootless.place}; {inner}"]
    assert person.run(command, cwd=rootless.place).stdout == "top\n"


def test_whole_host_can_be_the_layer() -> None:
    """The host's root filesystem, that is; what is mounted below it, as /tmp may be, is no part of a layer."""
    require("root", "kernel overlay")
    with a_scratch("/") as place:
        (place / "file").touch()
        inside = str(place / "file").lstrip("/")
        script = f"rm {inside} && test ! -e {inside} && echo gone"
        command = [str(BIN / "layerfs"), "run", "/", "--", "sh", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
        assert done.stdout == "gone\n"
        assert (place / "file").exists()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--", "true"], 2, "the following arguments are required: LAYER"),
        (["top"], 2, "give the command after `--`"),
        (["top", "--"], 2, "there is no command after `--`"),
        (["top", "--bogus", "--", "true"], 2, "unrecognized arguments: --bogus"),
        (["--driver", "magic", "top", "--", "true"], 2, "invalid choice: 'magic'"),
        (["top", "nowhere", "--", "true"], 1, "nowhere is not there (hint:"),
        (["top", "top", "--", "true"], 1, "is given twice (hint:"),
        (["top", "--work", "x", "--", "true"], 2, "--work without --upper (hint:"),
    ],
)
def test_wrong_usage_is_said_in_one_line(rootless: Scene, words: Sequence[str], status: int, said: str) -> None:
    command = [str(BIN / "layerfs"), "run", *words]
    assert rootless.person
    done = rootless.person.run(command, check=False, cwd=rootless.place)
    assert done.returncode == status
    assert said in done.stderr.splitlines()[-1]


def test_help_after_a_layer_is_help(rootless: Scene) -> None:
    done = rootless.run("--help", "--")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: layerfs run LAYER...")


def test_an_upper_in_use_here_is_in_use_for_all(scene: Scene) -> None:
    """Nobody outside sees a mount that the kernel made in here."""
    scene.make("upper", "work", "work2", "mnt")
    words = ("--upper", "upper", "--work", "work", "--", "sh", "-c", "echo ready; cat")
    with subprocess.Popen(
        scene.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **scene.around
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        command = [str(BIN / "layerfs"), "mount", "bottom", "mnt", "--upper", "upper", "--work", "work2", "--driver"]
        for driver in ("fuse", "kernel"):
            done = subprocess.run(
                [*command, driver], cwd=scene.place, capture_output=True, text=True, check=False, timeout=PATIENCE
            )
            assert done.returncode == 1
            assert "in use by another" in done.stderr
        running.communicate()
    assert running.returncode == 0
    assert [name for name in os.listxattr(scene.place / "upper") if "mount" in name] == []
