"""Damaged requests, answers and tables do no harm: the lane under the address and undefined-behaviour sanitizers."""

import os
import subprocess
import sys
from pathlib import Path

from layerfs.extensions import builder, settings
from tests.host import PROJECT

MODULE = "layerfs.lane._lane"
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
COUNT = 30_000
SEED = 20261127


def build(place: Path) -> str:
    """Build the extension with sanitizers."""
    (extension,) = (each for each in settings(PROJECT) if each["name"] == MODULE)
    ffi = builder(
        PROJECT,
        MODULE,
        sources=[str(PROJECT / source) for source in extension["sources"]],
        include_dirs=[str(PROJECT / directory) for directory in extension["include-dirs"]],
        extra_compile_args=[*extension["extra-compile-args"], *SANITIZE],
        extra_link_args=SANITIZE[:1],
    )
    return str(ffi.compile(tmpdir=str(place)))


def runtime(name: str) -> str:
    """Where the compiler has a sanitizer's library."""
    return subprocess.run(
        ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_damaged_messages_and_tables_are_answered_or_passed_on(tmp_path: Path) -> None:
    module = build(tmp_path / "build")
    (tmp_path / "place").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.lane.fuzz", tmp_path / "place", module, f"--seed={SEED}", f"--count={COUNT}"],
        cwd=PROJECT, capture_output=True, text=True, check=False, timeout=200,
        env=os.environ | {"LD_PRELOAD": runtime("libasan.so"), "ASAN_OPTIONS": "detect_leaks=0"},
    )  # fmt: skip
    assert done.returncode == 0, f"seed {SEED}:\n{done.stdout}{done.stderr[-6000:]}"
    assert int(done.stdout.split()[0]) > COUNT / 2
