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


GIVEN = """
import os, subprocess
from layerfs.sys.title import clear_environment, give_environment
clear_environment()
give_environment([b"A=1=2", b"B=first", b"none", b"=nobody", b"B=", b"PATH=/bin:/usr/bin"])
print(dict(os.environ), os.environb[b"A"])
os.environ["C"] = "3"
del os.environ["A"]
subprocess.run("echo $A-$B-$C", shell=True)
"""


def test_a_given_environment_is_the_whole_one_in_python_and_below() -> None:
    done = subprocess.run(
        [sys.executable, "-u", "-c", GIVEN], capture_output=True, text=True, check=True, env={"X": "gone"}
    )
    assert done.stdout == "{'A': '1=2', 'B': '', 'PATH': '/bin:/usr/bin'} b'1=2'\n--3\n"
    assert done.stderr == ""
