"""`layerfs bench`, where the harness is and where it is not."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from layerfs.cli import bench
from layerfs.errors import NotFound
from tests.host import PROJECT
from tests.waiting import PATIENCE


def test_what_the_harness_lacks_is_said_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> ModuleType:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    monkeypatch.setattr(importlib, "import_module", load)
    with pytest.raises(NotFound, match="needs matplotlib") as error:
        bench.harness()
    assert "make bench" in str(error.value.hint)


def test_the_verb_is_not_offered_where_the_harness_is_not_installed(scratch: Path) -> None:
    """As after `pip install`: the package is there, and nothing beside it."""
    shutil.copytree(PROJECT / "layerfs", scratch / "layerfs", ignore=shutil.ignore_patterns("__pycache__"))
    program = "import sys; from layerfs.cli.main import main; sys.exit(main(sys.argv[1:]))"
    shown, refused = (
        subprocess.run(
            [sys.executable, "-c", program, word],
            cwd=scratch, env={"PYTHONPATH": str(scratch)},
            capture_output=True, text=True, check=False, timeout=PATIENCE,
        )
        for word in ("--help", "bench")
    )  # fmt: skip
    assert shown.returncode == 0 and "mount" in shown.stdout and "bench" not in shown.stdout
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
