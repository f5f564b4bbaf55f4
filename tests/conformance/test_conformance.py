"""Every case of containerd's suite passes over every driver; Rename is skipped by the suite itself."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import clear
from tests.host import BIN, require

GO = Path("/usr/lib/go/bin/go")  # Debian's, whatever else is on PATH
CASES = 20
TIME = 280  # s for all cases of a driver


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite as a program, built with Debian's compiler and its packages of containerd."""
    require("root", "fuse", str(GO))
    base = tmp_path_factory.mktemp("go")
    source = base / "src" / "conformance"
    source.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("suite_test.go"), source)
    environment = {"GO111MODULE": "off", "GOPATH": f"{base}:/usr/share/gocode", "GOCACHE": str(base / "cache")}
    environment |= {"HOME": str(base), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "GOTOOLCHAIN": "local"}
    program = base / "suite"
    command = [str(GO), "test", "-c", "-o", str(program), "."]
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture
def place(scratch: Path) -> Iterator[Path]:
    """Where the suite works: its own mounts go with it."""
    yield scratch
    clear(scratch / "tmp")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("driver", ["overlay", "fuse", "xar", "btrfs"])
def test_every_case_passes(suite: Path, place: Path, driver: str) -> None:
    (place / "tmp").mkdir()
    if driver == "btrfs":
        with open(place / "disk", "wb") as disk:
            disk.truncate(1 << 30)
        subprocess.run(["mkfs.btrfs", "-q", place / "disk"], check=True)
        subprocess.run(["mount", "-o", "loop", place / "disk", place / "tmp"], check=True)
    environment = os.environ | {
        "LAYERFS": str(BIN / "layerfs"),
        "SNAPSHOTTER": f"layerfs-{driver}",
        "TMPDIR": str(place / "tmp"),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    command: list[str | Path] = [suite, "-test.v", "-test.root", f"-test.timeout={TIME}s"]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    failed = re.findall(r"^ +--- FAIL: (\S+)", done.stdout, re.MULTILINE)
    assert failed == [], done.stdout[-20_000:] + done.stderr[-4000:]
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert len(re.findall(r"^ +--- PASS", done.stdout, re.MULTILINE)) == CASES
