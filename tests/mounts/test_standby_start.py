"""Which commands start a process that stands by."""

import os
import subprocess
import sys

import pytest

from layerfs.mounts import standby_start
from tests.waiting import PATIENCE

GOES_ON = """
import os
from layerfs.mounts import standby, standby_start

standby.stand_by = lambda *_: print("stands by", flush=True)
standby_start.was_started_by(b"/bin/true", len)
standby_start.start_standby(apart=True)
os.execv("/bin/sh", ["sh", "-c", "cat; read children </proc/$$/task/$$/children; echo $children."])
"""


def test_a_program_that_could_not_be_asked_leaves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    standby_start.start_standby()
    monkeypatch.setattr(standby_start, "_started", (b"/bin/true", len))
    monkeypatch.setenv("LAYERFS_STANDBY", "no")
    standby_start.start_standby()


def test_a_program_that_goes_on_has_no_child() -> None:
    """It would have to wait for one that it does not know of."""
    words = [sys.executable, "-c", GOES_ON]
    done = subprocess.run(words, input="", capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert sorted(done.stdout.splitlines()) == [".", "stands by"]


def test_the_program_is_told_unless_nobody_is_to_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert standby_start.program() is None
    monkeypatch.setattr(standby_start, "_started", (b"/bin/true", len))
    monkeypatch.delenv("LAYERFS_STANDBY", raising=False)
    assert standby_start.program() == b"/bin/true"
    monkeypatch.setenv("LAYERFS_STANDBY", "no")
    assert standby_start.program() is None
