"""Every case of containerd's suite passes over every driver; in that of 1.6 Rename is skipped by the suite itself.

The suite of 1.6 comes from Debian's packages. That of 2.x runs as well where LAYERFS_GO names a go command that can
fetch modules; LAYERFS_CONTAINERD is the version (v2.4.2).
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import clear
from tests.host import BIN, require

PROGRAM = Path(__file__).with_name("suite_test.go")
GO = Path("/usr/lib/go/bin/go")  # Debian's, whatever else is on PATH
MODULES = os.environ.get("LAYERFS_GO", "")  # a go command that can fetch modules
VERSION = os.environ.get("LAYERFS_CONTAINERD", "v2.4.2")
CASES = {"1": 20, "2": 21}
TIME = 900  # s for all cases of a driver; 20 on a quiet machine, 280 beside thirty busy processes
SECOND = {  # where the packages of 1.6 are in 2.x, and what grpc calls the rest today
    "containerd/namespaces": "containerd/v2/pkg/namespaces",
    "containerd/pkg/testutil": "containerd/v2/pkg/testutil",
    "containerd/snapshots": "containerd/v2/core/snapshots",
    '"google.golang.org/grpc"': '"google.golang.org/grpc"\n\t"google.golang.org/grpc/credentials/insecure"',
    "grpc.Dial": "grpc.NewClient",
    "grpc.WithInsecure()": "grpc.WithTransportCredentials(insecure.NewCredentials())",
}


class Suite(NamedTuple):
    """A built suite, and how many of its cases must pass."""

    program: Path
    cases: int


@pytest.fixture(scope="module", params=["1", "2"] if MODULES else ["1"])
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """The suite of a version as a program: Debian's compiler and packages for 1.6, modules for 2.x."""
    base = tmp_path_factory.mktemp("go")
    return Suite(_second(base) if request.param == "2" else _first(base), CASES[request.param])


def _first(base: Path) -> Path:
    require("root", "fuse", str(GO))
    source = base / "src" / "conformance"
    source.mkdir(parents=True)
    shutil.copy(PROGRAM, source)
    environment = {"GO111MODULE": "off", "GOPATH": f"{base}:/usr/share/gocode", "GOCACHE": str(base / "cache")}
    environment |= {"HOME": str(base), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "GOTOOLCHAIN": "local"}
    return _built([str(GO), "test"], source, environment)


def _second(base: Path) -> Path:
    require("root", "fuse", MODULES)
    text = PROGRAM.read_text()
    for old, new in SECOND.items():
        text = text.replace(old, new)
    (base / PROGRAM.name).write_text(text)
    (base / "go.mod").write_text(
        f"module conformance\ngo 1.24\nrequire github.com/containerd/containerd/v2 {VERSION}\n"
    )
    return _built([MODULES, "test", "-mod=mod"], base, dict(os.environ))


def _built(command: list[str], source: Path, environment: dict[str, str]) -> Path:
    program = source / "suite"
    done = subprocess.run(
        [*command, "-c", "-o", str(program), "."],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture
def place(scratch: Path) -> Iterator[Path]:
    """Where the suite works: its own mounts go with it."""
    yield scratch
    clear(scratch / "tmp")


@pytest.mark.timeout(TIME + 120)
@pytest.mark.parametrize("driver", ["overlay", "fuse", "xar", "btrfs"])
def test_every_case_passes(suite: Suite, place: Path, driver: str) -> None:
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
    command: list[str | Path] = [suite.program, "-test.v", "-test.root", f"-test.timeout={TIME}s"]
    status, said = run(command, place, environment)
    failed = re.findall(r"^ +--- FAIL: (\S+)", said, re.MULTILINE)
    assert failed == [], said[-20_000:]
    assert status == 0, said[-4000:]
    assert len(re.findall(r"^ +--- PASS", said, re.MULTILINE)) == suite.cases


def run(command: Sequence[str | Path], place: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run a suite; return its status and what it said. One that ran out of time leaves a daemon, which ends with it."""
    said = place / "said"
    with open(said, "wb") as out:  # a pipe would wait for that daemon as well
        process = subprocess.Popen(
            command, cwd=place, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait(), said.read_text(errors="replace")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
