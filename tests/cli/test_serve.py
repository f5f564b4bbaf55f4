"""`layerfs serve` as a person calls it: what it prints, checks and refuses."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.host import BIN
from tests.waiting import PATIENCE


def serve(place: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command: list[str | Path] = [BIN / "layerfs", "serve", "--root", place / "store", "--address", place / "s.sock"]
    return subprocess.run([*command, *words], capture_output=True, text=True, check=False, timeout=PATIENCE)


@pytest.mark.parametrize("program", ["containerd-1", "containerd-2", "buildkitd", "nerdctl"])
def test_print_config_is_toml_for_each_program(scratch: Path, program: str) -> None:
    done = serve(scratch, "--print-config", program)
    assert done.returncode == 0, done.stderr
    assert tomllib.loads(done.stdout)
    assert not (scratch / "s.sock").exists()


def test_check_says_what_would_be_served(scratch: Path) -> None:
    done = serve(scratch, "--check")
    assert done.returncode == 0, done.stderr
    assert "layerfs-overlay can be served" in " ".join(done.stdout.split())
    assert "the default" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config", "/nowhere/c.toml"], "there is no configuration /nowhere/c.toml"),
        (["--snapshotter", "nosuch", "--check"], "nosuch"),
        (["--metrics", "nowhere", "--check"], "HOST:PORT"),
    ],
)
def test_what_is_wrong_is_one_sentence(scratch: Path, words: list[str], said: str) -> None:
    done = serve(scratch, *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_root_that_no_message_can_hold_is_refused(scratch: Path) -> None:
    path = os.fsencode(scratch) + b"/\xff"
    done = subprocess.run([BIN / "layerfs", "serve", "--root", path, "--check"], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"UTF-8" in done.stderr
