"""Which commands start a process that stands by."""

import os

import pytest

from layerfs.mounts import standby_start


def test_a_program_that_could_not_be_asked_leaves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    standby_start.start_standby()
    monkeypatch.setattr(standby_start, "_program", (b"/bin/true", len))
    monkeypatch.setenv("LAYERFS_STANDBY", "no")
    standby_start.start_standby()
