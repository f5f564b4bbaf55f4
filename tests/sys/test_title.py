"""What /proc shows of a process that does something else than it was started for."""

import subprocess
import sys

PROGRAM = """
from pathlib import Path
from layerfs.sys.title import show_words
show_words([b"first", b"x" * 100_000])
show_words([b"some", b"words"])
print(Path("/proc/self/cmdline").read_bytes(), Path("/proc/self/environ").read_bytes())
"""


def test_words_are_shown_and_the_environment_is_not() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "b'some\\x00words\\x00' b''\n"
    assert done.stderr == ""
