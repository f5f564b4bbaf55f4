"""What a command that has mounted leaves behind."""

import os

import pytest

from layerfs.mounts import leaving


def test_a_program_that_could_not_be_asked_leaves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    leaving.leave_behind()
    monkeypatch.setattr(leaving, "_program", (b"/bin/true", len))
    monkeypatch.setenv("LAYERFS_STANDBY", "no")
    leaving.leave_behind()
