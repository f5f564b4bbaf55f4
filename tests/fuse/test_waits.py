"""How long a second client waits while the first one asks for what takes long.

The bounds are generous, for busy machines: the second client gets ANSWERS while the first one waits, and none of them
takes most of that time. Before, it got one or two, and the last one took all of it.
"""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import a_scratch
from tests.host import BIN
from tests.host import require as require_feature
from tests.waiting import PATIENCE

NAMES = 150_000  # in one directory
WHITEOUTS = 50_000  # in another
SIZE = 2 << 30  # bytes of one file
DATA = 768 << 20  # bytes of it that are no hole
ANSWERS = 10  # at least; guessed
MOST = 0.8  # of the time that the first client's request takes; guessed
FAIR = 1.0  # s; a shorter wait is no fault, whatever it is a part of; guessed


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    require_feature("fuse", "root")
    with a_scratch("/dev/shm") as base:
        lower = base / "lower"
        (lower / "large").mkdir(parents=True)
        (lower / "else").mkdir()
        for number in range(NAMES):
            os.close(os.open(lower / f"large/{number}", os.O_CREAT))
        with open(lower / "file", "wb") as file:
            block = os.urandom(1 << 20)
            for _ in range(DATA >> 20):
                file.write(block)
            file.truncate(SIZE)
        yield base


@pytest.fixture
def mount(base: Path, scratch: Path) -> Iterator[Path]:
    with mounted(base) as place:
        yield place


@contextmanager
def mounted(base: Path) -> Iterator[Path]:
    """Give a mount that is still served without the session, which most of what takes long begins."""
    for name in ("upper", "work", "mount"):
        (base / name).mkdir(exist_ok=True)
    stack: list[str | Path] = [base / "lower", base / "mount", "--upper", base / "upper", "--work", base / "work"]
    subprocess.run([BIN / "layerfs", "mount", "--driver", "fuse", *stack], check=True, timeout=PATIENCE)
    (base / "mount/else/absent").exists()
    try:
        yield base / "mount"
    finally:
        subprocess.run([BIN / "layerfs", "umount", base / "mount"], check=True, timeout=PATIENCE)
        subprocess.run(["rm", "-rf", base / "upper", base / "work"], check=True)


class Second:
    """A client that asks for one name after the other, each one not known to the kernel.

    In a directory of its own: the kernel itself locks a directory in which somebody renames, links or removes.
    """

    def __init__(self, mount: Path) -> None:
        self.longest, self.asked, self._place, self._over = 0.0, 0, mount / "else", threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            assert not os.path.exists(self._place / f"absent-{self.asked}")
            self.longest = max(self.longest, time.monotonic() - began)
            self.asked += 1

    @contextmanager
    def beside(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


@contextmanager
def first(program: str, path: Path) -> Iterator[Callable[[], None]]:
    """Start a client in a process of its own; what this gives has it go to work, and waits until it is done."""
    wait = "import sys; sys.stdin.readline()\n"
    command: list[str | Path] = [sys.executable, "-c", wait + program, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as client:

        def go() -> None:
            client.communicate("go\n", timeout=PATIENCE)
            assert client.returncode == 0

        yield go


LIST = f"import os, sys; assert len(os.listdir(sys.argv[1])) == {NAMES}"
FIRST = "import os, sys; os.stat(sys.argv[1] + '/7')"
MAKE = "import os, sys; os.mkdir(sys.argv[1] + '/new')"
REMOVE = """
import errno, os, sys
try:
    os.rmdir(sys.argv[1])
except OSError as error:
    assert error.errno == errno.ENOTEMPTY
"""
REPLACE = """
import errno, os, sys
os.mkdir(sys.argv[1] + '.new')
try:
    os.rename(sys.argv[1] + '.new', sys.argv[1])
except OSError as error:
    assert error.errno == errno.ENOTEMPTY
"""
OPEN = "import os, sys; os.open(sys.argv[1], os.O_RDWR)"
CUT = "import os, sys; os.truncate(sys.argv[1], os.stat(sys.argv[1]).st_size - 1)"
CHMOD = "import os, sys; os.chmod(sys.argv[1], 0o600)"
RENAME = "import os, sys; os.rename(sys.argv[1], sys.argv[1] + '.new')"
LINK = "import os, sys; os.link(sys.argv[1], sys.argv[1] + '.new')"


@pytest.mark.parametrize(
    ("name", "program"),
    [
        *(("large", program) for program in (LIST, FIRST, MAKE, REMOVE, REPLACE)),
        *(("file", program) for program in (OPEN, CUT, CHMOD, RENAME, LINK)),
    ],
    ids="list first make remove replace open cut chmod rename link".split(),
)
def test_others_do_not_wait_for_it(mount: Path, name: str, program: str) -> None:
    """A directory of a million names stopped everybody for five seconds."""
    second = Second(mount)
    with first(program, mount / name) as go, second.beside():
        began = time.monotonic()
        go()
        took = time.monotonic() - began
    assert second.asked > ANSWERS and second.longest < max(MOST * took, FAIR), (second.longest, took, second.asked)


def test_others_do_not_wait_for_whiteouts_that_are_cleared_away(base: Path, scratch: Path) -> None:
    """The last rmdir of `rm -r large` removed the whiteouts by itself before anybody else was answered."""
    large = base / "upper/large"
    large.mkdir(parents=True)
    os.setxattr(large, "trusted.overlay.opaque", b"y")
    os.mknod(base / "upper/whiteout", stat.S_IFCHR, 0)
    for number in range(WHITEOUTS):
        os.link(base / "upper/whiteout", large / f"{number}")
    with mounted(base) as mount:
        second = Second(mount)
        with first("import os, sys; os.rmdir(sys.argv[1])", mount / "large") as go, second.beside():
            began = time.monotonic()
            go()
            took = time.monotonic() - began
        assert not (mount / "large").exists()
    assert second.asked > ANSWERS and second.longest < max(MOST * took, FAIR), (second.longest, took, second.asked)


def test_a_client_that_is_killed_ends_its_copy(mount: Path, base: Path) -> None:
    """It could not end before all was copied."""

    def copying() -> bool:
        return any(name.isdigit() for name in os.listdir(base / "work/work"))

    client = subprocess.Popen([sys.executable, "-c", OPEN, mount / "file"])
    deadline = time.monotonic() + PATIENCE
    while not copying():
        assert time.monotonic() < deadline
    client.send_signal(signal.SIGKILL)
    assert client.wait(PATIENCE) == -signal.SIGKILL
    while copying():
        assert time.monotonic() < deadline
    if not (base / "upper/file").exists():  # else the copy was quicker
        assert (mount / "file").stat().st_size == SIZE
