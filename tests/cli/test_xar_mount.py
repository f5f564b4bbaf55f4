"""`layerfs xar mount`: one mount for everybody, that survives crashes and goes when nobody uses it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.host import BIN, require
from tests.waiting import PATIENCE, wait_until
from tests.xars import Desk, make_xar

CALLERS = 16
SOON = "0.4"  # s without use
FILES = {"hello": "hello\n", "run": '#!/bin/sh\ncat "${0%/*}/hello"\n'}


def leftovers(desk: Desk) -> list[str]:
    """What is below the root, memos aside."""
    return [path.name for path in desk.root.glob("uid-*/*") if path.suffix != ".graph"]


def test_mount_prints_where_and_is_shared(desk: Desk) -> None:
    xar = desk.xar("a.xar", FILES)
    where = desk.do("xar", "mount", "-n", xar)
    assert desk.mounts() == []
    assert desk.do("xar", "mount", "-m", xar) == where
    assert desk.do("xar", "mount", xar) == where
    assert desk.do("-m", xar, program="xarexec_fuse") == where
    assert desk.mounts() == [Path(where.strip())]
    assert desk.read(desk.mounts()[0] / "hello") == "hello\n"


def test_many_at_once_make_one_mount(desk: Desk) -> None:
    xar = desk.xar("a.xar", FILES)
    command = desk.command("-m", xar, program="xarexec_fuse")
    pipe = subprocess.PIPE
    callers = [subprocess.Popen(command, stdout=pipe, stderr=pipe, **desk.around) for _ in range(CALLERS)]
    said = [caller.communicate(timeout=PATIENCE) for caller in callers]
    assert len(set(said)) == 1 and said[0][1] == b""
    assert [caller.returncode for caller in callers] == [0] * CALLERS
    assert desk.mounts() == [Path(os.fsdecode(said[0][0].strip()))]


def test_a_crashed_server_is_replaced(desk: Desk) -> None:
    xar = desk.xar("a.xar", FILES)
    where = desk.mount(xar)
    os.kill(desk.server(where), signal.SIGKILL)
    assert desk.mount(xar) == where
    assert desk.read(where / "hello") == "hello\n"
    assert desk.mounts() == [where]


def test_what_a_crash_left_is_cleared_away_by_the_next_mount(persons_desk: Desk) -> None:
    first = persons_desk.mount(persons_desk.xar("a.xar", FILES))
    pid = persons_desk.server(first)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}/exe").exists())
    second = persons_desk.mount(persons_desk.xar("b.xar", FILES))
    assert persons_desk.mounts() == [second]
    assert sorted(leftovers(persons_desk)) == [second.name, f"{second.name}.lock"]


def test_an_unused_mount_goes_and_leaves_nothing(desk: Desk) -> None:
    xar = desk.xar("a.xar", FILES)
    where = desk.mount(xar, "--timeout", SOON)
    wait_until(lambda: desk.mounts() == [] and leftovers(desk) == [])
    assert desk.mount(xar) == where


def test_the_environment_says_when_it_is_unused(persons_desk: Desk) -> None:
    xar = persons_desk.xar("a.xar", FILES)
    persons_desk.do("-m", xar, program="xarexec_fuse", env={"XAR_MOUNT_TIMEOUT": SOON})
    wait_until(lambda: persons_desk.mounts() == [])


USES = {
    "a working directory": 'cd "$1" && test -e hello && echo ready && read _',
    "an open file": 'exec 5<"$1/hello" && echo ready && read _',
}


@contextmanager
def in_use(desk: Desk, script: str) -> Iterator[tuple[Path, str]]:
    """Mount, and run a script that uses the mount; yield where, and its patience: longer where the script came late."""
    xar = desk.xar("a.xar", FILES)
    for soon in (SOON, "4", "40"):
        where = desk.mount(xar, "--timeout", soon)
        words = ["sh", "-c", script, "sh", str(where)]
        command = desk.person.command(words) if desk.person else words
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **desk.around) as user:
            assert user.stdout
            if user.stdout.readline() == "ready\n":
                yield where, soon
                user.communicate("\n", timeout=PATIENCE)
                return
    pytest.fail("nobody could use the mount before it went")


@pytest.mark.parametrize("script", USES.values(), ids=USES)
def test_a_mount_in_use_stays(script: str, desk: Desk) -> None:
    with in_use(desk, script) as (where, soon):
        # An unused mount of the same patience that is made later, and goes, tells that the time has passed.
        clock = desk.mount(desk.xar("clock.xar", FILES), "--timeout", soon)
        wait_until(lambda: clock not in desk.mounts())
        assert desk.mounts() == [where]
    wait_until(lambda: desk.mounts() == [])


def test_two_files_with_one_uuid_show_each_its_own(persons_desk: Desk) -> None:
    one, other = (persons_desk.mount(persons_desk.xar(f"{text}.xar", {"text": text})) for text in ("one", "other"))
    assert (persons_desk.read(one / "text"), persons_desk.read(other / "text")) == ("one", "other")


def test_a_replaced_file_shows_what_is_new_and_the_old_mount_what_was(persons_desk: Desk) -> None:
    before = persons_desk.mount(persons_desk.xar("a.xar", {"text": "old"}))
    after = persons_desk.mount(persons_desk.xar("a.xar", {"text": "new"}))
    assert (persons_desk.read(before / "text"), persons_desk.read(after / "text")) == ("old", "new")


SWAP = """
import os
from layerfs.xarexec import share, serve
mount = serve.mount_here
def swap(file, *rest):
    done = mount(file, *rest)
    if os.path.exists("new.xar"):
        os.rename("new.xar", file)
    return done
serve.mount_here = swap
print(os.fsdecode(share.mount(b"a.xar").path))
"""


def test_a_file_that_is_replaced_while_it_is_mounted_is_never_taken_for_the_other(persons_desk: Desk) -> None:
    """Its name was made of the old file's stamp, and nobody knows which of the two was opened."""
    persons_desk.xar("a.xar", {"text": "old"})
    persons_desk.xar("new.xar", {"text": "new"})
    where = Path(persons_desk.do("-c", SWAP, program="python").strip())
    assert persons_desk.read(where / "text") == "new"
    assert persons_desk.mounts() == [where]
    assert sorted(leftovers(persons_desk)) == [where.name, f"{where.name}.lock"]


def test_dependencies_are_in_it(persons_desk: Desk) -> None:
    persons_desk.xar("D.xar", {"d": "d", "both": "below"})
    persons_desk.xar("B.xar", {"b": "b"}, depends=["D.xar"])
    where = persons_desk.mount(persons_desk.xar("A.xar", {"a": "a", "both": "above"}, depends=["B.xar", "D.xar"]))
    assert [persons_desk.read(where / name) for name in ("a", "b", "d", "both")] == ["a", "b", "d", "above"]


def test_unmount(desk: Desk) -> None:
    xar = desk.xar("a.xar", FILES)
    done = desk.run("xar", "mount", "--unmount", xar)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{xar} is not mounted" in done.stderr
    desk.mount(xar)
    desk.do("xar", "mount", "--unmount", xar)
    assert desk.mounts() == []
    assert leftovers(desk) == []


def test_unmount_refuses_a_mount_in_use(persons_desk: Desk) -> None:
    xar = persons_desk.xar("a.xar", {"run": "#!/bin/sh\necho ready; read _\n"})
    with persons_desk.started("xar", "exec", xar) as program:
        assert program.stdout and program.stdout.readline() == "ready\n"
        done = persons_desk.run("xar", "mount", "--unmount", xar)
        assert (done.returncode, "is in use" in done.stderr) == (1, True)
        program.communicate("\n", timeout=PATIENCE)
    persons_desk.do("xar", "mount", "--unmount", xar)


def test_without_a_root_of_its_own_it_is_where_xarexec_has_it(desk: Desk) -> None:
    xar = make_xar(desk.base / "a.xar", FILES)
    where = desk.mount(xar)
    try:
        assert any(where.is_relative_to(root) for root in ("/mnt/xarfuse", "/dev/shm"))
        assert desk.read(where / "hello") == "hello\n"
    finally:
        desk.do("xar", "mount", "--unmount", xar)


def test_a_hostile_directory_is_passed_over_with_a_warning(persons_desk: Desk) -> None:
    require("root")
    assert persons_desk.person
    (persons_desk.root / f"uid-{persons_desk.person.uid}").mkdir(0o700)
    xar = persons_desk.xar("a.xar", FILES)
    done = persons_desk.run("xar", "mount", xar)
    try:
        assert done.returncode == 0
        assert done.stderr.startswith("layerfs: warning: ")
        assert "belongs to somebody else (owner 0, mode 0700); mounting in " in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not Path(done.stdout.strip()).is_relative_to(persons_desk.root)
    finally:
        persons_desk.run("xar", "mount", "--unmount", xar)


def test_a_mount_that_fails_leaves_nothing(persons_desk: Desk) -> None:
    xar = persons_desk.xar("a.xar", FILES)
    with open(xar, "r+b") as file:
        file.truncate(4096 + 50)
    done = persons_desk.run("xar", "mount", xar)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("layerfs: ") and len(done.stderr.splitlines()) == 1
    assert persons_desk.mounts() == []
    assert leftovers(persons_desk) == []


WRONG = {
    "a file that is none": (["xar", "mount", "/etc/hostname"], 1, "/etc/hostname is not a XAR"),
    "a file that is not there": (["xar", "mount", "absent.xar"], 1, "absent.xar: No such file or directory"),
    "a time that is none": (["xar", "mount", "--timeout", "soon", "/etc/hostname"], 2, "invalid time value: 'soon'"),
    "a negative time": (["xar", "exec", "--timeout=-1", "/etc/hostname"], 2, "invalid time value: '-1'"),
    "a directory": (["xar", "mount", "/etc"], 1, "/etc is not a file"),
    "no file": (["xar", "mount"], 2, "FILE"),
}


@pytest.mark.parametrize(("words", "status", "said"), WRONG.values(), ids=WRONG)
def test_wrong_words(words: list[str], status: int, said: str, tmp_path: Path) -> None:
    done = subprocess.run([BIN / "layerfs", *words], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
