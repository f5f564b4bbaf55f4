"""A command in a scope of its own, where systemd runs services."""

import subprocess
from pathlib import Path

import pytest

from layerfs.sys.scope import in_own_scope

WORDS = ["/bin/echo", "a b", "$c"]


def test_a_program_that_is_no_service_starts_others_as_they_are(scratch: Path) -> None:
    assert in_own_scope(WORDS, {}, str(scratch)) == WORDS
    assert in_own_scope(WORDS, {"INVOCATION_ID": "x"}, str(scratch / "nothing")) == WORDS


def test_a_service_asks_systemd_and_goes_on_without_it(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a program in its place says what it was asked, and fails."""
    stand_in = scratch / "systemd-run"
    stand_in.write_text(f'#!/bin/sh\nprintf "%s|" "$@" >{scratch}/asked\nexit 1\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(scratch), prepend=":")
    command = in_own_scope(WORDS, {"INVOCATION_ID": "x"}, str(scratch))
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "a b $c\n"
    asked = (scratch / "asked").read_text().removeprefix("--user|")
    assert asked == "--scope|--quiet|--collect|--|/bin/echo|a b|$c|"
