"""Who a command is."""

import os
import subprocess
import sys

import pytest

from layerfs.mounts.identity import Identity
from tests.host import require

PROGRAM = """
import os, sys
from layerfs.mounts.identity import Identity
Identity((), os.fsencode(sys.argv[1]), 7, 8, (9, 10)).assume()
print(os.getresuid(), os.getresgid(), os.getgroups(), os.getcwd())
"""


def test_all_ids_and_the_directory_are_taken_on(scratch: "os.PathLike[str]") -> None:
    require("root")
    place = os.path.join(scratch, "a/b")
    done = subprocess.run([sys.executable, "-c", PROGRAM, place], capture_output=True, text=True, check=True)
    assert done.stdout == f"(7, 7, 7) (8, 8, 8) [9, 10] {place}\n"


@pytest.mark.parametrize("entries", [(b"A=1", b"B=x=y", b"C=")])
def test_environment_is_what_it_says(entries: tuple[bytes, ...]) -> None:
    assert Identity(entries, b"/", 0, 0).variables() == {b"A": b"1", b"B": b"x=y", b"C": b""}
