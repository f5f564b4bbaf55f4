"""A library before libfuse; tests/semantics has what comes of it. Each case has a process of its own."""

import subprocess
import sys

from tests.waiting import PATIENCE

INTERCEPT = """
import sys
from importlib.util import find_spec
from layerfs.sys.intercept import Intercept
try:
    found = Intercept(find_spec("layerfs.lane._lane").origin, find_spec(sys.argv[1]).origin, [43, 46])
except OSError as error:
    sys.exit(str(error))
"""


def run(program: str, user: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", INTERCEPT + program, user]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_the_module_that_is_imported_later_calls_ours_which_calls_libfuse() -> None:
    program = """
import ctypes, os, pyfuse3
ours = ctypes.CDLL(None).fuse_session_receive_buf
assert ctypes.cast(ours, ctypes.c_void_p).value != ctypes.cast(
    ctypes.CDLL(pyfuse3.__file__).fuse_session_receive_buf, ctypes.c_void_p).value
assert found.size.value == 0
found.size.value = 3
assert len(found.take()) == 3 and found.size.value == 0
"""
    done = run(program, "pyfuse3")
    assert done.returncode == 0, done.stderr


def test_a_module_that_does_not_read_requests_is_refused() -> None:
    done = run("", "_ctypes")
    assert "does not read requests" in done.stderr
