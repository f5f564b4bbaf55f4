"""`layerfs mount` from end to end: both drivers, with root and without, and how the server lives and dies."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from layerfs.cli import mount as mount_verb
from layerfs.cli.parser import build_parser
from layerfs.mounts.registry import birth
from layerfs.sys.mounts import mountinfo
from tests.cli.conftest import Place
from tests.host import BIN, PROJECT, require
from tests.waiting import PATIENCE, wait_until

MERGED = {"both": "top", "top": "top", "bottom": "bottom"}


def read(place: Path) -> dict[str, str]:
    """Return the files of a directory."""
    return {path.name: path.read_text() for path in place.iterdir()}


def is_mounted(place: Path) -> bool:
    return any(info.target == os.fsencode(place) for info in mountinfo())


def look(place: Place) -> dict[str, str]:
    """Read the mount as its owner."""
    if place.person is None:
        return read(place.mnt)
    code = "import json, pathlib; print(json.dumps({p.name: p.read_text() for p in pathlib.Path('mnt').iterdir()}))"
    import json

    found: dict[str, str] = json.loads(place.person.run([sys.executable, "-c", code], cwd=place.base).stdout)
    return found


def test_layers_and_upper_are_one_tree_and_umount_ends_it(either: Place) -> None:
    either.mount("--driver", "fuse")
    assert look(either) == MERGED
    pid = either.status()["pid"]
    either.do("umount", either.mnt)
    assert not is_mounted(either.mnt)
    assert birth(pid) == 0
    assert either.status() == {}


def test_what_is_written_lands_in_the_upper_and_shows_at_the_next_mount(place: Place) -> None:
    place.mount("--driver", "fuse")
    (place.mnt / "both").write_text("new")
    (place.mnt / "top").unlink()
    place.do("umount", place.mnt)
    assert (place.upper / "both").read_text() == "new"
    place.mount("--driver", "fuse")
    assert read(place.mnt) == {"both": "new", "bottom": "bottom"}


def test_the_drop_in_form_mounts_the_same(place: Place) -> None:
    (place.base / "work").mkdir()
    place.do("mount", "-o", ",,lowerdir=top:bottom,upperdir=upper,workdir=work,driver=fuse,", "mnt")
    assert read(place.mnt) == MERGED


@pytest.mark.parametrize("driver", ["fuse", "kernel"])
def test_without_an_upper_the_mount_is_read_only(place: Place, driver: str) -> None:
    place.do("mount", *place.layers, place.mnt, "--driver", driver)
    assert read(place.mnt) == MERGED
    with pytest.raises(OSError, match="Read-only file system"):
        (place.mnt / "new").touch()


def test_options_between_the_layers_are_understood(place: Place) -> None:
    top, bottom = place.layers
    place.do("mount", top, "--upper", place.upper, bottom, "--driver=fuse", "-onoexec", place.mnt)
    assert read(place.mnt) == MERGED
    assert os.statvfs(place.mnt).f_flag & os.ST_NOEXEC


def test_both_parsers_agree() -> None:
    lines = [
        ["a", "b", "m"],
        ["a", "--upper", "u", "b", "-f", "m", "--work=w"],
        ["-o", "x,y", "-oz", "m", "--debug", "--log", "l", "--driver", "kernel"],
    ]
    for line in lines:
        quick = mount_verb.quick(line)
        slow, rest = build_parser(("mount",)).parse_known_args(["mount", *line])
        slow.paths += rest
        assert quick is not None
        assert {**vars(quick), "usage": None} == {**vars(slow), "usage": None}


@pytest.mark.parametrize("line", [[], ["-h"], ["--nonsense"], ["a", "--upper"], ["a", "m", "--driver", "ext4"]])
def test_what_is_not_well_formed_is_left_to_argparse(line: list[str]) -> None:
    assert mount_verb.quick(line) is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ([], "no MOUNTPOINT"),
        (["mnt"], "no LAYER"),
        (["top", "mnt", "-o", "lowerdir=bottom"], "twice"),
        (["top", "mnt", "--upper", "upper", "-o", "upperdir=upper"], "twice"),
        (["top", "mnt", "--driver", "ext4"], "invalid choice"),
        (["top", "mnt", "--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_wrong_usage_exits_with_two(place: Place, line: list[str], said: str) -> None:
    done = place.run("mount", *line)
    assert done.returncode == 2
    assert said in done.stderr.replace("both as arguments", "twice")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["absent", "mnt"], "absent"),
        (["top", "absent"], "no such mountpoint"),
        (["top", "top", "mnt"], "twice"),
        (["top", "mnt", "-o", "bogus"], 'unknown mount option "bogus"'),
        (["top", "mnt", "--upper", "absent"], "no such upper"),
        (["top", "mnt", "--upper", "top"], "layer"),
        (["top", "top/top"], "not a directory"),
        (["top", "mnt", "--log", "absent/log"], "absent/log: No such file or directory"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(place: Place, line: list[str], said: str) -> None:
    done = place.run("mount", "--driver", "fuse", *line)
    assert done.returncode == (2 if "option" in said else 1)
    assert done.stderr.startswith("layerfs: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not is_mounted(place.mnt)


def test_a_mountpoint_above_its_layers_is_refused_by_the_kernel_driver_too(place: Place) -> None:
    for driver in ("kernel", "fuse"):
        done = place.run("mount", "--driver", driver, "top", ".")
        assert done.returncode == 1
        assert "above its own layer" in done.stderr


def test_the_work_directory_is_made_beside_the_upper(place: Place) -> None:
    place.mount("--driver", "fuse")
    assert Path(place.status()["work"]) == place.base / "upper.work"
    assert (place.base / "upper.work").stat().st_mode & 0o777 == 0o700


def test_an_upper_that_is_a_mount_needs_its_work_directory_named(place: Place) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place.upper], check=True, timeout=PATIENCE)
    done = place.run("mount", "top", "mnt", "--upper", "upper")
    assert done.returncode == 1
    assert "--work" in done.stderr


def test_relative_layers_stay_what_they_were_when_named(place: Place) -> None:
    place.do("mount", "top", "../place/bottom", "mnt", "--driver", "fuse")
    assert read(place.mnt) == MERGED


def test_symlinks_to_layers_are_followed(place: Place) -> None:
    (place.base / "link").symlink_to(place.layers[1])
    place.do("mount", "top", "link", "mnt", "--driver", "fuse")
    assert read(place.mnt) == MERGED


def test_the_server_holds_no_end_of_the_callers_pipes_and_none_of_its_descriptors(place: Place) -> None:
    """Podman waits for the end of its pipe; `do` does too, and would time out."""
    heard, said = os.pipe()
    os.set_inheritable(said, True)
    try:
        command = [str(BIN / "layerfs"), "mount", "top", "bottom", "mnt", "--driver", "fuse"]
        subprocess.run(command, check=True, capture_output=True, close_fds=False, timeout=PATIENCE, cwd=place.base)
    finally:
        os.close(said)
    with open(heard, "rb") as ear:
        assert ear.read() == b""  # at once: nobody else holds it
    pid = place.status()["pid"]
    targets = {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    assert {targets[fd] for fd in "012"} == {"/dev/null"}
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) == pid


def test_a_caller_without_stdio_gets_its_mount_too(place: Place) -> None:
    """Descriptor 0 became the device, and then /dev/null."""
    line = f"{BIN}/layerfs mount top bottom mnt --driver fuse <&- >&- 2>&-"
    subprocess.run(["sh", "-c", line], check=True, cwd=place.base, timeout=PATIENCE)
    assert read(place.mnt) == MERGED


def test_the_log_is_where_it_was_asked_for(place: Place) -> None:
    place.do("mount", *place.layers, place.mnt, "--driver", "fuse", "--log", "server.log", "--debug")
    read(place.mnt)
    place.do("umount", place.mnt)
    log = place.base / "server.log"
    assert "DEBUG" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_leaves_nothing(place: Place, number: signal.Signals) -> None:
    place.mount("--driver", "fuse")
    (place.mnt / "new").write_text("new")
    pid = place.status()["pid"]
    os.kill(pid, number)
    wait_until(lambda: birth(pid) == 0)
    assert not is_mounted(place.mnt)
    assert place.status() == {}
    assert (place.upper / "new").read_text() == "new"


def test_a_killed_server_is_shown_dead_and_cleaned_away(either: Place) -> None:
    either.mount("--driver", "fuse")
    look(either)
    os.kill(either.status()["pid"], signal.SIGKILL)
    wait_until(lambda: either.status()["health"] == "dead")
    again = either.run("mount", *either.layers, either.mnt, "--driver", "fuse")
    assert "server is dead (hint: layerfs umount" in again.stderr
    either.do("umount", either.mnt)
    assert not is_mounted(either.mnt)
    assert either.status() == {}
    either.mount("--driver", "fuse")
    assert look(either) == MERGED


def test_in_the_foreground_the_command_lasts_as_long_as_the_mount(place: Place) -> None:
    command = [str(BIN / "layerfs"), *"mount -f --driver fuse".split(), *map(str, place.layers), str(place.mnt)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as server:
        wait_until(lambda: is_mounted(place.mnt))
        assert read(place.mnt) == MERGED
        wait_until(lambda: place.status() != {})
        assert place.status()["pid"] == server.pid
        place.do("umount", place.mnt)
        assert server.wait(PATIENCE) == 0


def test_a_server_that_cannot_start_takes_the_mount_away(place: Place) -> None:
    broken = place.base / "broken"
    broken.mkdir()
    (broken / "trio.py").write_text("raise RuntimeError('broken on purpose')")
    environment = {"PYTHONPATH": str(broken), "LAYERFS_SESSION": "first"}
    place.do("mount", *place.layers, place.mnt, "--driver", "fuse", "--log", "log", env=environment)
    wait_until(lambda: not is_mounted(place.mnt))
    wait_until(lambda: place.status() == {})
    assert "broken on purpose" in (place.base / "log").read_text()


def test_in_the_foreground_a_bug_is_one_line_after_the_log(place: Place) -> None:
    broken = place.base / "broken"
    broken.mkdir()
    (broken / "trio.py").write_text("raise RuntimeError('broken on purpose')")
    words = ["mount", "-f", "top", "mnt", "--driver", "fuse", "--log", "log"]
    environment = {"PYTHONPATH": str(broken), "TMPDIR": str(place.base), "LAYERFS_SESSION": "first"}
    done = place.run(*words, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("layerfs: a bug: RuntimeError: broken on purpose (hint: ")
    assert done.stderr.count("\n") == 1
    assert not is_mounted(place.mnt)
    assert "broken on purpose" in (place.base / "log").read_text()


def test_an_upper_in_use_is_refused(place: Place) -> None:
    place.mount("--driver", "fuse")
    (place.base / "other").mkdir()
    done = place.run("mount", "top", "other", "--driver", "fuse", "--upper", "upper", "--work", "upper.work")
    assert done.returncode == 1
    assert "in use" in done.stderr


def test_in_a_user_namespace_its_root_mounts_by_itself(either: Place) -> None:
    if either.person is None:
        return
    require("userns")
    script = (
        "layerfs mount top bottom mnt --upper upper --driver fuse && cat mnt/both && layerfs status mnt && "
        "layerfs umount mnt"
    )
    done = either.person.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script],
        cwd=either.base,
        env={"PATH": f"{BIN}:{os.environ['PATH']}"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("top")
    assert "serving" in done.stdout


def test_the_way_to_mount_imports_nothing_heavy(place: Place) -> None:
    """trio, pyfuse3, argparse and their like cost more than all of ours; the server imports what it needs later."""
    code = """
import os, sys
from layerfs.cli import main
real = os.fork
def fork():
    heavy = "argparse ast asyncio inspect_ json logging pyfuse3 rich shtab shutil socket subprocess tempfile trio"
    print(sorted(set(heavy.split()).intersection(sys.modules)), flush=True)
    return real()
os.fork = fork
main.main(sys.argv[1:])
"""
    words = [sys.executable, "-S", "-c", code, "mount", "--driver", "fuse", "top", "mnt"]
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=place.base, timeout=PATIENCE, env={"PYTHONPATH": _python_path()}
    )
    assert (done.stdout.splitlines()[:1], done.stderr) == (["[]"], "")


def _python_path() -> str:
    return os.pathsep.join([str(PROJECT), *(path for path in sys.path if path.endswith("site-packages"))])


@pytest.mark.parametrize("driver", ["fuse", "kernel"])
def test_a_stack_that_is_mounted_already_is_said_to_be(place: Place, driver: str) -> None:
    place.mount("--driver", driver)
    done = place.run("mount", *place.layers, place.mnt, "--driver", driver, "--upper", place.upper)
    assert done.returncode == 1
    assert done.stderr == f"layerfs: this stack is already mounted at {place.mnt} (hint: layerfs umount {place.mnt})\n"


def test_the_upper_is_no_work_directory(place: Place) -> None:
    done = place.run("mount", "top", "mnt", "--upper", "upper", "--work", "upper")
    assert "is the upper directory itself" in done.stderr


@pytest.mark.parametrize("program", ["layerfs", "layerfs-mount"])
def test_options_are_listed(place: Place, program: str) -> None:
    verb = ["mount"] if program == "layerfs" else []
    for words in (["-o", "help"], ["-o", "ro,help", "top", "mnt"]):
        shown = place.do(*verb, *words, program=program)
        assert "lowerdir=A:B" in shown and "nosuid" in shown
    assert not is_mounted(place.mnt)


def in_the_foreground(place: Place, *words: str | Path) -> "subprocess.Popen[bytes]":
    command = [BIN / "layerfs", "mount", "-f", "--driver=fuse", *words, *place.layers, place.mnt]
    server = subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE)
    assert server.stderr is not None
    with ExitStack() as undo:
        undo.callback(server.wait)
        undo.callback(server.kill)
        undo.callback(server.stderr.close)
        wait_until(lambda: place.status().get("pid") == server.pid or server.poll() is not None)
        assert server.returncode is None, server.stderr.read()
        undo.pop_all()
    return server


def test_what_a_crash_left_is_cleared_away_by_the_next_one_in_the_foreground(place: Place) -> None:
    """So that a unit with Restart=on-failure starts again."""
    with in_the_foreground(place) as first:
        first.kill()
    assert is_mounted(place.mnt)
    elsewhere: list[str | Path] = ["unshare", "--mount", "--propagation=private", BIN / "layerfs", "cache", "gc"]
    environment = {**os.environ, "LAYERFS_CACHE": str(place.base / "cache")}
    subprocess.run(elsewhere, check=True, capture_output=True, env=environment)  # looks through what is on record
    with in_the_foreground(place) as second:
        assert read(place.mnt) == MERGED
        place.do("umount", place.mnt)
        assert second.wait(PATIENCE) == 0
    assert not is_mounted(place.mnt)


def test_a_log_that_was_asked_for_tells_of_start_and_end(place: Place) -> None:
    log = place.base / "server.log"
    with in_the_foreground(place, "--log", log) as server:
        wait_until(lambda: log.stat().st_size > 0)
        place.do("umount", place.mnt)
        assert server.wait(PATIENCE) == 0
    lines = log.read_text().splitlines()
    assert f"serving '{place.mnt}', 2 layers: asked for by --driver=fuse" in lines[0]
    assert lines[-1].endswith("unmounted: the server ends")
