"""`cli/program.c`: a mount is made by the process that stands by since the one before, and nobody can tell."""

import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from layerfs.sys.mounts import mount_raw, unmount
from tests.cli.conftest import Place
from tests.host import BIN, require
from tests.waiting import PATIENCE, wait_until

STANDBY = b"layerfs-standby"


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def name(pid: int) -> bytes:
    return Path(f"/proc/{pid}/comm").read_bytes().strip()


def server(place: Place) -> int:
    return int(place.status()["pid"])


def runtime(place: Place) -> Path:
    return Path("/run" if place.person is None else place.person.environment()["XDG_RUNTIME_DIR"]) / "layerfs"


def sockets(place: Place) -> list[Path]:
    """Where somebody may be asked on behalf of who owns the place."""
    return list(runtime(place).glob("*.standby"))


def socket_of(standby: int, place: Place) -> Path:
    """Where this process that stands by is asked: others may come and go meanwhile, for other tests."""
    ours = {os.readlink(entry) for entry in Path(f"/proc/{standby}/fd").iterdir()}
    (path,) = {
        columns[7]
        for columns in map(str.split, Path("/proc/net/unix").read_text().splitlines())
        if len(columns) == 8 and f"socket:[{columns[6]}]" in ours
    }
    return runtime(place) / Path(path).name  # it is bound through a descriptor of its directory


def mount_warm(place: Place, *before: str, **options: Any) -> int:
    """Mount once so that a process stands by, then once more; return the pid of that one's server."""
    known = set(sockets(place))
    place.mount("--driver=fuse")
    place.do("umount", place.mnt)
    wait_until(lambda: set(sockets(place)) - known or known)
    return mount(place, *before, **options)


def mount(place: Place, *before: str, **options: Any) -> int:
    words = ["mount", *place.layers, place.mnt, "--upper", place.upper, "--driver=fuse"]
    command = [*before, str(BIN / "layerfs"), *map(str, words)]
    if place.person is not None:
        place.person.run(command, **options)
    else:
        subprocess.run(command, check=True, timeout=PATIENCE, **options)
    return server(place)


@pytest.fixture(autouse=True)
def _warm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAYERFS_STANDBY", raising=False)


def test_the_second_mount_is_made_by_a_process_that_stands_by(either: Place) -> None:
    pid = mount_warm(either)
    assert name(parent(pid)) == STANDBY
    assert either.status()["driver"] == "fuse"
    either.do("umount", either.mnt)
    wait_until(lambda: either.status() == {})


def test_who_has_no_locale_is_served_as_well(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python sets LC_CTYPE for itself there, and so nobody was found to be like who stood by: podman has no LANG."""
    for unset in ("LANG", "LC_ALL", "LC_CTYPE"):
        monkeypatch.delenv(unset, raising=False)
    assert name(parent(mount_warm(place))) == STANDBY


def test_who_may_raise_the_number_of_descriptors_is_served_as_well(place: Place) -> None:
    """A mount raises it to the hard limit, and so did who stood by then: nobody with the usual 1,024 was like that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        assert name(parent(mount_warm(place))) == STANDBY
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_server_shows_its_own_command_line_and_nobodys_environment(place: Place) -> None:
    pid = mount_warm(place)
    assert os.fsencode(place.mnt) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    assert Path(f"/proc/{pid}/environ").read_bytes() == b""


def test_a_killed_process_that_stood_by_takes_no_mount_with_it(place: Place) -> None:
    pid = mount_warm(place)
    os.kill(parent(pid), signal.SIGKILL)
    (place.mnt / "new").write_text("new")
    assert sorted(os.listdir(place.mnt)) == ["both", "bottom", "new", "top"]
    place.do("umount", place.mnt)
    assert name(parent(mount_warm(place))) == STANDBY


def test_words_directory_and_umask_are_the_callers(place: Place) -> None:
    mount_warm(place)
    place.do("umount", place.mnt)
    words = [str(BIN / "layerfs"), "mount", "top", "bottom", "mnt", "--upper", "fresh", "--driver=fuse"]
    (place.base / "fresh").mkdir()
    subprocess.run(words, cwd=place.base, umask=0o027, check=True, timeout=PATIENCE)
    assert name(parent(server(place))) == STANDBY
    assert (place.base / "fresh.work").stat().st_mode & 0o777 in (0o700, 0o750)
    assert place.status()["mountpoint"] == str(place.mnt)


@pytest.mark.parametrize(
    "words",
    [
        ("mount", "top", "nowhere"),
        ("mount", "top", "absent", "mnt", "--driver=fuse"),
        ("mount", "top", "mnt", "--uper", "u"),
        ("mount", "-o", "lazytme", "top", "mnt"),
        ("mount", "--help"),
        ("mount", "-o", "help"),
    ],
    ids=" ".join,
)
def test_who_stands_by_says_what_the_program_itself_says(place: Place, words: tuple[str, ...]) -> None:
    mount_warm(place)
    cold = place.run(*words, env={"LAYERFS_STANDBY": "no"})
    warm = place.run(*words)
    assert (warm.returncode, warm.stdout, warm.stderr) == (cold.returncode, cold.stdout, cold.stderr)


@pytest.mark.parametrize(
    "before",
    [
        ("prlimit", "--nofile=1000:1000"),
        ("setpriv", "--no-new-privs"),
        ("setpriv", "--bounding-set=-net_raw"),
        ("nice", "-n", "5"),
        ("unshare", "--ipc"),
        ("env", "PYTHONHASHSEED=1"),
        ("env", "LAYERFS_STANDBY=no"),
    ],
    ids=" ".join,
)
def test_nobody_stands_by_for_who_is_otherwise(place: Place, before: tuple[str, ...]) -> None:
    require(before[0])
    path = socket_of(parent(mount_warm(place)), place)
    place.do("umount", place.mnt)
    pid = mount(place, *before)
    assert name(parent(pid)) != STANDBY
    place.do("umount", place.mnt)
    assert path.is_socket()


def test_one_that_was_stopped_makes_nobody_wait_for_ever(place: Place) -> None:
    standby = parent(mount_warm(place))
    place.do("umount", place.mnt)
    os.kill(standby, signal.SIGSTOP)
    try:
        assert name(parent(mount(place))) != STANDBY
    finally:
        os.kill(standby, signal.SIGCONT)
    wait_until(lambda: not any(parent(pid) == standby for pid in processes()))  # it was asked, and mounts nothing
    (place.mnt / "new").touch()
    place.do("umount", place.mnt)
    wait_until(lambda: place.status() == {})


def test_the_foreground_is_the_callers_own(place: Place) -> None:
    mount_warm(place)
    place.do("umount", place.mnt)
    command = [str(BIN / "layerfs"), "mount", "-f", *map(str, place.layers), str(place.mnt), "--driver=fuse"]
    with subprocess.Popen(command, cwd=place.base) as process:
        wait_until(lambda: place.status())
        assert server(place) == process.pid
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_closed_streams_and_paths_of_the_callers_own_process_are_left_to_it(place: Place) -> None:
    mount_warm(place)
    place.do("umount", place.mnt)
    layers = " ".join(f"/proc/self/fd/{fd}" for fd in (7, 8))
    script = f"exec 7<top 8<bottom; exec {BIN}/layerfs mount {layers} mnt --driver=fuse <&-"
    subprocess.run(["bash", "-c", script], cwd=place.base, check=True, timeout=PATIENCE)
    assert name(parent(server(place))) != STANDBY
    assert (place.mnt / "top").read_text() == "top"


def test_the_kernels_driver_is_left_nothing_behind(place: Place) -> None:
    require("kernel overlay")
    mount_warm(place)
    place.do("umount", place.mnt)
    place.mount("--driver=kernel")
    assert place.status()["driver"] == "kernel"
    place.do("umount", place.mnt)


def test_what_somebody_has_mounted_at_the_runtime_directory_holds_nobody(either: Place) -> None:
    """It may never answer; a stranger can mount so at our name in /tmp, if /etc/fuse.conf lets others in."""
    if either.person is None:  # root looks into /run first, where nobody else mounts
        return
    require("root")
    ours = Path(either.person.environment()["XDG_RUNTIME_DIR"]) / "layerfs"
    either.person.owns(ours)
    ours.chmod(0o700)
    device = os.open("/dev/fuse", os.O_RDWR)
    words = f"fd={device},rootmode=40000,user_id=4711,group_id=4711,allow_other"
    mount_raw(b"fuse", b"silent", bytes(ours), 0, words.encode())
    try:
        either.person.run([BIN / "layerfs", "mount", *either.layers, either.mnt, "--driver=fuse"])
        assert either.person.run(["ls", either.mnt]).stdout.split() == ["both", "bottom", "top"]
        either.person.run([BIN / "layerfs", "umount", either.mnt])
    finally:
        os.close(device)
        unmount(bytes(ours), lazy=True)


def test_many_at_once_are_all_mounted(place: Place) -> None:
    mount_warm(place)
    points = [place.base / f"m{number}" for number in range(12)]
    for point in points:
        point.mkdir()
    layers = ":".join(map(str, place.layers))
    commands = [[str(BIN / "layerfs-mount"), "-o", f"lowerdir={layers}", str(point)] for point in points]
    started = [subprocess.Popen(command) for command in commands]
    assert [process.wait(PATIENCE) for process in started] == [0] * len(points)
    assert all((point / "top").read_text() == "top" for point in points)
