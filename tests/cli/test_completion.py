"""Completion scripts, as the shells themselves use them."""

import subprocess
from pathlib import Path

import pytest

from layerfs.cli import xar
from layerfs.cli.completion import SHELLS, mount_options
from layerfs.spec.options import known_options
from tests.host import BIN, require
from tests.waiting import PATIENCE

CASES = [
    ("um", ["umount"]),
    ("mount --dr", ["--driver"]),
    ("mount --driver k", ["kernel"]),
    ("mount -o upper", ["upperdir="]),
    ("mount -o ro,noa", ["ro,noacl", "ro,noatime"]),
    ("xar ver", ["verify"]),
    ("xar build --comp", ["--compression"]),
    ("umount lay", ["layer"]),
    ("xar info pack", ["package"]),
]


def script(shell: str) -> str:
    words = [str(BIN / "layerfs"), "completion", shell]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout


@pytest.fixture
def directory(scratch: Path) -> Path:
    (scratch / "layer").mkdir()
    (scratch / "package").touch()
    return scratch


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_one_that_the_shell_can_read(shell: str) -> None:
    require(shell)
    done = subprocess.run([shell, "-n"], input=script(shell), text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_verbs_options_and_parts_of_verbs(shell: str) -> None:
    text = script(shell)
    for word in ("driver", "umount", "kernel", "squash_to_uid=", *xar.PARTS):
        assert word in text


@pytest.mark.parametrize(("typed", "offered"), CASES, ids=[typed for typed, _ in CASES])
def test_bash_completes(typed: str, offered: list[str], directory: Path) -> None:
    require("bash")
    words = typed.split()
    ask = f"COMP_WORDS=(layerfs {typed}); COMP_CWORD={len(words)}; _shtab_layerfs"
    probe = ask + "; printf '%s\\n' \"${COMPREPLY[@]}\""
    command = ["bash", "-c", f"{script('bash')}\n{probe}"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.split() == offered


@pytest.mark.parametrize(("typed", "offered"), CASES, ids=[typed for typed, _ in CASES])
def test_fish_completes(typed: str, offered: list[str], directory: Path) -> None:
    require("fish")
    command = ["fish", "--no-config", "-c", f"{script('fish')}\ncomplete -C 'layerfs {typed}'"]
    environment = {"HOME": str(directory), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert [line.partition("\t")[0].rstrip("/") for line in done.stdout.splitlines()] == offered


def test_every_mount_option_is_offered_with_an_equals_sign_where_a_value_must_follow() -> None:
    offered = mount_options()
    assert [name.rstrip("=") for name in offered] == known_options()
    assert {"lowerdir=", "fsync=", "timeout=", "ro", "volatile", "xino"} <= set(offered)
