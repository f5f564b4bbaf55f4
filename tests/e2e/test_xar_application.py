"""A real application in six XARs, one on top of the other, as somebody without root runs it.

    A application --+-- B reports ------ D numpy's algebra --+
                   +-- C experiments -- E numpy's chance ---+-- F the rest of numpy, and the libraries it is linked to

numpy's own directory is divided among D, E and F, and its compiled modules find their libraries beside it: only where
all of them are mounted as one tree does `import numpy` work.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.waiting import wait_until

from .conftest import performance
from .people import Kind
from .stage import LAYERFS, Stage, mounts_below, processes_naming
from .wheels import unpack

NEEDS = ("fuse", "person")
DEPENDS = {"F": "", "E": "F", "D": "F", "C": "E", "B": "D", "A": "BC"}  # in the order in which they are built
PARTS = {"D": ("linalg", "fft"), "E": ("random", "polynomial")}  # of numpy
APPLICATION = {
    # By path, and without site: nothing but what is mounted is imported.
    "run": f'#!/bin/sh\nexec {sys.executable} -S -E "${{0%/*}}/main.py" "$@"\n',
    "main.py": """
import json, sys
import numpy
from experiments.dice import throw
from reports.summary import summarize
rows = int(sys.argv[2]) if len(sys.argv) > 2 else 4
found = summarize(throw(rows))
files = {module.__file__ for name, module in sys.modules.items() if name.split(".")[0] in ("numpy", "reports")}
compiled = sorted(name for name in files if name and name.endswith(".so"))
print(json.dumps({**found, "numpy": numpy.__file__, "compiled": compiled, "called": sys.argv[1:]}))
""",
}
EXPERIMENTS = "import numpy\ndef throw(rows):\n    return numpy.random.default_rng(1).integers(1, 7, (rows, rows))\n"
REPORTS = """
import numpy
WORDS = "{words}"
def summarize(table):
    waves = numpy.fft.ifft(numpy.fft.fft(table)).real.round(6)
    values, vectors = numpy.linalg.eigh(table @ table.T)
    again = vectors @ numpy.diag(values) @ vectors.T
    return {{"words": WORDS, "sum": int(table.sum()), "same": bool(numpy.allclose(again, table @ table.T)),
            "waves": bool((waves == table).all())}}
"""


@dataclass(frozen=True)
class Application:
    """Six XARs, and the trees they are made of."""

    stage: Stage

    @property
    def xars(self) -> Path:
        return self.stage.root / "xars"

    @property
    def head(self) -> Path:
        return self.xars / "A.xar"

    @property
    def shared(self) -> list[Path]:
        return mounts_below(self.stage.root / "shared")

    def tree(self, name: str) -> Path:
        return self.stage.root / "trees" / name

    def build(self, name: str) -> None:
        """Build a XAR in the place of the one there is."""
        depends = [f"{other}.xar" for other in DEPENDS[name]]
        words: list[str | Path] = ["--depends", *depends] if depends else []
        words += ["--target", "run", "--mount-root", self.stage.root / "shared"] if name == "A" else []
        words += ["--compression", "zstd", "--level", "1"]
        self.stage.run(LAYERFS, "xar", "build", self.tree(name), "-o", self.xars / f"{name}.xar", *words)

    def report(self, words: str) -> None:
        """Write the module that B consists of."""
        self.stage.layer("trees/B/reports", {"summary.py": REPORTS.format(words=words)})


def write_trees(application: Application) -> None:
    """Divide numpy and an application that uses it among six trees."""
    stage = application.stage
    stage.layer("trees/A", APPLICATION)
    stage.layer("trees/C/experiments", {"dice.py": EXPERIMENTS})
    application.report("as it was")
    base = application.tree("F")
    unpack("numpy", base)
    for tests in [*base.rglob("tests")]:
        shutil.rmtree(tests)
    for tree, parts in PARTS.items():
        for part in parts:
            (application.tree(tree) / "numpy").mkdir(parents=True, exist_ok=True)
            (base / "numpy" / part).rename(application.tree(tree) / "numpy" / part)
    subprocess.run(["chown", "-R", f"{stage.person.uid}:{stage.person.gid}", stage.root / "trees"], check=True)


@pytest.fixture(scope="module")
def built() -> Iterator[Application]:
    with performance(Kind.USER) as stage:
        application = Application(stage)
        for name in ("trees", "xars", "shared"):
            stage.directory(name)
        write_trees(application)
        for name in DEPENDS:
            application.build(name)
        yield application
        for pid in processes_naming(stage.root):  # a copy in another mount namespace, of another test, keeps a server
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not processes_naming(stage.root), "the server of a shared mount is still there")


@pytest.fixture
def application(built: Application) -> Iterator[Application]:
    """The application; what is still mounted in the end is unmounted."""
    yield built
    for mount in built.shared:
        built.stage.run("fusermount3", "-u", mount)


def look(said: str) -> dict[str, object]:
    """Return what the application printed, after seeing that it calculated right."""
    found: dict[str, object] = json.loads(said)
    assert (found["same"], found["waves"]) == (True, True)
    return found


def within(mount: Path, found: dict[str, object]) -> bool:
    """Tell whether every compiled module that was loaded, and numpy itself, came from a mount."""
    compiled = found["compiled"]
    assert isinstance(compiled, list) and len(compiled) > 5
    return all(Path(str(name)).is_relative_to(mount) for name in [found["numpy"], *compiled])


def test_mounted_with_all_that_it_depends_on(application: Application) -> None:
    """`layerfs mount A.xar` brings six images into one mount, served by one process."""
    stage = application.stage
    mount = stage.directory("mount")
    stage.run(LAYERFS, "mount", application.head, mount)
    try:
        status = json.loads(stage.run(LAYERFS, "status", "--json", mount))[0]
        assert [Path(layer).name[0] for layer in status["layers"]] == list("ABDCEF")
        assert len(mounts_below(stage.root)) == 1
        found = look(stage.run(mount / "run"))
        assert within(mount, found)
        names = set(stage.run("ls", mount, mount / "numpy").split())
        assert {"run", "reports", "experiments", "numpy.libs", "linalg", "random", "_core"} <= names
    finally:
        stage.run("fusermount3", "-u", mount)


def test_run_as_a_program(application: Application) -> None:
    """Through its first line, by `layerfs xar exec`, and from a mount that both share."""
    stage = application.stage
    head = application.head
    by_kernel = look(stage.run(head, "5"))
    by_verb = look(stage.run(LAYERFS, "xar", "exec", head, "--", "5"))
    assert by_kernel == by_verb
    assert by_kernel["called"] == [str(head), "5"]
    (mount,) = application.shared
    assert within(mount, by_kernel)
    assert stage.run(LAYERFS, "xar", "mount", "-m", head).strip() == str(mount)


def test_a_replaced_xar_is_seen_and_the_running_one_undisturbed(application: Application) -> None:
    stage = application.stage
    before = Path(stage.run(LAYERFS, "xar", "mount", application.head).strip())
    assert look(stage.run(application.head))["words"] == "as it was"
    untouched = (application.xars / "F.xar").stat()
    application.report("as it is now")
    application.build("B")
    try:
        found = look(stage.run(application.head))
        assert found["words"] == "as it is now"
        (after,) = (mount for mount in application.shared if mount != before)
        assert within(after, found)
        assert (application.xars / "F.xar").stat() == untouched
        assert look(stage.run(before / "run"))["words"] == "as it was"
    finally:
        application.report("as it was")
        application.build("B")


def test_through_the_package_cache(application: Application) -> None:
    """The cache has every package but A, which is anywhere; one module changes, and one file is stored again."""
    stage = application.stage
    cache = {"LAYERFS_CACHE": str(stage.root / "cache")}
    names = [f"{name}.xar" for name in DEPENDS]

    def add() -> dict[str, int]:
        said = stage.run(LAYERFS, "cache", "add", "--json", "--deps", application.head, env=cache)
        told = json.loads(said)
        return {key: told[key] for key in ("stored_bytes", "reused_bytes")} | {"stored": len(told["stored"])}

    sizes = {name: (application.xars / name).stat().st_size for name in names}
    assert add() == {"stored_bytes": sum(sizes.values()), "reused_bytes": 0, "stored": 6}
    application.report("as it is in the cache")
    application.build("B")
    try:
        changed = (application.xars / "B.xar").stat().st_size
        rest = sum(sizes.values()) - sizes["B.xar"]
        assert add() == {"stored_bytes": changed, "reused_bytes": rest, "stored": 1}
    finally:
        application.report("as it was")
        application.build("B")
    assert rest / (rest + changed) > 0.99
    head = stage.run(LAYERFS, "cache", "path", "A.xar", env=cache).strip()
    found = look(stage.run(LAYERFS, "xar", "exec", head, env=cache))
    assert found["words"] == "as it is in the cache"
    (mount,) = application.shared
    assert within(mount, found)
