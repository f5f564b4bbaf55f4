"""`layerfs xar` as a user calls it, in a directory with a tree and the XAR of it."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.host import BIN
from tests.waiting import PATIENCE

EPOCH = "1514764800"


def run(*words: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [str(BIN / "layerfs"), "xar", *map(str, words)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": EPOCH, "COLUMNS": "80"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=cwd, env=environment
    )


@pytest.fixture
def place(scratch: Path) -> Path:
    """A directory with a tree and the XAR of it."""
    (scratch / "tree/bin").mkdir(parents=True)
    (scratch / "tree/bin/app").write_text("#!/bin/sh\n")
    (scratch / "tree/bin/app").chmod(0o755)
    (scratch / "tree/text").write_text("text\n")
    done = run("build", "tree", "-o", "app.xar", "--target", "bin/app", "--depends", "b.xar", "c.xar", cwd=scratch)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("app.xar: 4 entries, 8.0 KiB, UUID ")
    assert done.stdout.endswith(f", VERSION {EPOCH}\n")
    return scratch
