"""What each start of a program in a XAR pays for."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def test_starting_imports_nothing_heavy(xar: Callable[..., Path]) -> None:
    """Each start of a program in a XAR pays for what is imported until its mount is found."""
    program = f"""
import sys
from layerfs.xarexec import share
share.answers = lambda path: True
share.Shared = lambda path, package, fresh: path
from layerfs.cli import xar_exec, xar_mount
share.mount({bytes(xar("a.xar"))!r})
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"trio", "pyfuse3", "argparse", "dataclasses", "ctypes", "json", "hashlib", "subprocess", "logging"}
    assert set(done.stdout.split()) & heavy == set()
