"""Kernel overlayfs and layerfs give the same answers and the same trees, and read each other's uppers.

Each campaign is a program in a mount namespace of its own: its mounts go with it, whatever happens, and no other
namespace can copy them (kernel overlayfs calls an upper busy while any copy of its mount lives).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host import PROJECT, Person, require
from tests.oracle.campaign import LONG

EXAMPLES, SECONDS = 60, 18  # each campaign; guessed so that every operation is tried some hundred times
TIMEOUT = None if LONG else 280  # s; shrinking a failure takes most of it


def command(setting: str) -> list[str]:
    return [sys.executable, "-m", "tests.oracle.campaign", setting, str(EXAMPLES), str(SECONDS)]


def environment(scratch: Path) -> dict[str, str]:
    return {"LAYERFS_ORACLE_EXAMPLES": str(LONG), "PYTHONPATH": str(PROJECT), "TMPDIR": str(scratch)}


@pytest.mark.timeout(0 if LONG else 300)
@pytest.mark.parametrize(
    ("setting", "session"),
    [
        ("REDIRECT", "first"),
        ("REDIRECT", "needed"),
        ("COPYING", "needed"),
        ("PLAIN", "first"),
        ("WITH_LANE", "first"),
        ("IMAGES", "needed"),
        ("IMAGES_WITH_LANE", "first"),
    ],
)
def test_layerfs_answers_as_kernel_overlayfs(setting: str, session: str, scratch: Path) -> None:
    require("root", "kernel overlay", "fuse-overlayfs", "mksquashfs")
    done = subprocess.run(
        ["unshare", "--mount", *command(setting)],
        env=os.environ | environment(scratch) | {"LAYERFS_SESSION": session},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(0 if LONG else 300)
def test_layerfs_answers_as_kernel_overlayfs_without_root(person: Person) -> None:
    require("userns overlay", "fuse")
    done = person.run(
        ["unshare", "--user", "--map-root-user", "--mount", *command("ROOTLESS")],
        env=environment(person.home),
        check=False,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
