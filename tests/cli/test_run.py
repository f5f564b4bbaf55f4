"""`layerfs run` for real: as root and as a person, by the kernel and by FUSE, with a terminal and without."""

import errno
import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from layerfs.errors import Unsupported
from layerfs.model import Stack
from layerfs.mounts import sandbox
from layerfs.mounts.sandbox import environment, with_upper
from layerfs.sys.child import DEFAULT_PATH
from tests.conftest import mounts_below
from tests.host import BIN, Person, require

PATIENCE = 30  # s until what must happen is given up
APPLETS = ("sh", "ls", "cat", "id", "rm", "mkdir", "rmdir", "mv", "sleep", "tty", "stat", "ps", "env", "kill", "grep")
NEEDS = {"root": ("root", "kernel overlay"), "person": ("userns overlay", "subids")}


@dataclass(frozen=True)
class Scene:
    """Two layers with busybox in the lower one, and who runs `layerfs run` on them."""

    place: Path
    person: Person | None
    options: tuple[str, ...] = ()

    def command(self, *words: str | Path) -> list[str]:
        command = [str(BIN / "layerfs"), "run", *self.options, "top", "bottom", *map(str, words)]
        return self.person.command(command) if self.person else command

    @property
    def around(self) -> dict[str, Any]:
        """What every process is started with: the temporary directory is the scene's own."""
        login = self.person.environment() if self.person else dict(os.environ)
        return {"cwd": self.place, "env": login | {"TMPDIR": str(self.place / "tmp")}}

    def run(self, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
            **self.around,
        )

    def shell(self, script: str, *words: str) -> list[str]:
        """Run a script that succeeds and return its lines."""
        done = self.run(*words, "--", "sh", "-c", script)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(self.command(*words), stdout=subprocess.PIPE, text=True, **self.around)

    def make(self, *names: str) -> None:
        for name in names:
            path = self.place / name
            path.mkdir()
            if self.person:
                os.chown(path, self.person.uid, self.person.gid)


def make_scene(place: Path, person: Person | None, options: tuple[str, ...] = ()) -> Scene:
    require("busybox")
    for name in ("top", "bottom/bin", "bottom/etc", "bottom/root", "tmp"):
        (place / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", place / "bottom/bin/busybox")
    for name in APPLETS:
        (place / "bottom/bin" / name).symlink_to("busybox")
    (place / "bottom/hidden").touch()
    (place / "bottom/common").write_text("bottom\n")
    (place / "top/common").write_text("top\n")
    if person:
        for path in (place, *place.rglob("*")):
            os.chown(path, person.uid, person.gid, follow_symlinks=False)
    return Scene(place, person, options)


@pytest.fixture(params=["root", "person", "root by FUSE", "person by FUSE"])
def scene(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Scene]:
    who, _, how = request.param.partition(" by ")
    require(*NEEDS[who], *(["fuse"] if how else []))
    person = request.getfixturevalue("person") if who == "person" else None
    place = scratch / "scene"
    place.mkdir()
    yield make_scene(place, person, ("--driver", "fuse") if how else ())
    assert mounts_below(place) == []
    assert os.listdir(place / "tmp") == []


@pytest.fixture
def rootless(scratch: Path, person: Person) -> Scene:
    require(*NEEDS["person"])
    return make_scene(scratch, person)


def wait_until(condition: Callable[[], bool]) -> None:
    patience = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < patience, "it did not happen"
        time.sleep(0.01)


def processes(*command: str) -> list[int]:
    """The processes with exactly this command line."""
    wanted = b"".join(word.encode() + b"\0" for word in command)
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == wanted:
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


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
    assert scene.shell("sleep 98765 & echo started") == ["started"]
    assert processes("sleep", "98765") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_command(scene: Scene, number: signal.Signals) -> None:
    trap = f"trap 'echo got; exit 5' {number.name.removeprefix('SIG')}; echo up; while :; do sleep 0.05; done"
    with scene.start("--", "sh", "-c", trap) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert (process.stdout.readline(), process.wait(PATIENCE)) == ("got\n", 5)


def test_killed_caller_takes_everything_along(rootless: Scene) -> None:
    with rootless.start("--", "sleep", "98764") as process:
        wait_until(lambda: processes("sleep", "98764") != [])
        process.kill()
        process.wait(PATIENCE)
        wait_until(lambda: processes("sleep", "98764") == [])
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


def test_whole_host_can_be_the_layer(scratch: Path) -> None:
    require("root", "kernel overlay")
    (scratch / "file").touch()
    inside = str(scratch / "file").lstrip("/")
    command = [str(BIN / "layerfs"), "run", "/", "--", "sh", "-c", f"rm {inside} && test ! -e {inside} && echo gone"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout == "gone\n"
    assert (scratch / "file").exists()


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
        (["top", "--work", "x", "--", "true"], 1, "--work without --upper (hint:"),
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
    script = "trap 'echo caught' INT; echo up; sleep 98763; echo after; sleep 0.3; exit 9"
    with Terminal(rootless, *words, "--", "sh", "-c", script) as terminal:
        terminal.expect(b"up")
        wait_until(lambda: processes("sleep", "98763") != [])
        terminal.type(b"\x03")
        terminal.expect(b"caught")
        terminal.expect(b"after")
        assert terminal.end() == 9
        assert b"caught" not in terminal.seen


def test_stop_key_and_job_control_work_in_a_shell(rootless: Scene) -> None:
    require("bash")
    with Terminal(rootless, "--", "bash", "--norc", "--noprofile", "-i") as terminal:
        terminal.expect(b"# ")
        terminal.type(b"sleep 98762\n")
        wait_until(lambda: state_of("sleep", "98762") == "S+")
        terminal.type(b"\x1a")
        terminal.expect(b"Stopped")
        terminal.type(b"fg\n")
        wait_until(lambda: state_of("sleep", "98762") == "S+")
        terminal.type(b"\x03")
        wait_until(lambda: processes("sleep", "98762") == [])
        terminal.type(b"exit 4\n")
        assert terminal.end() == 4


def state_of(*command: str) -> str:
    """The state of the only process with this command line, with + in the foreground of its terminal (ps(1))."""
    done = subprocess.run(["ps", "-o", "stat=", *map(str, processes(*command))], capture_output=True, text=True)
    return done.stdout.strip()


def test_closed_terminal_ends_the_command(rootless: Scene) -> None:
    with Terminal(rootless, "--", "sleep", "98761"):
        wait_until(lambda: processes("sleep", "98761") != [])
    assert processes("sleep", "98761") == []


def test_terminal_has_a_name_in_the_tree(rootless: Scene) -> None:
    with Terminal(rootless, "--root", "--", "tty") as terminal:
        terminal.expect(b"/dev/console")
        assert terminal.end() == 0


def test_environment_names_the_tree_and_keeps_the_rest() -> None:
    given = {b"PATH": b"/usr/bin:/opt/bin", b"HOME": b"/home/ann", b"TMPDIR": b"/scratch", b"LANG": b"C"}
    assert environment(b"/tree", given) == given | {b"LAYERFS_ROOT": b"/tree"}
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
