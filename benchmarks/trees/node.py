"""The tree `npm`: a JavaScript project that is not installed yet, whole in the lowest layer.

What `npm ci` takes from a registry lies in npm's own cache beside the trees, filled once from the registry that the
host is set up for; measured is an installation from there, without a network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.model import BenchError, BuiltTree
from benchmarks.trees import lowest

WANTED = {"eslint": "^9", "jest": "^29", "typescript": "^5", "webpack": "^5"}
QUIET = ("--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts", "--loglevel=error", "--logs-max=0")


def build(layers: int, cache: Path) -> BuiltTree:
    """Build or find the tree."""
    return lowest.build("npm", layers, cache, lambda base: make(base, cache))


def store(cache: Path) -> Path:
    """Return the directory of npm's cache."""
    return cache / "npm"


def words(cache: Path) -> list[str]:
    """Return npm's words for an installation of what its lock names."""
    return ["npm", "ci", *QUIET, "--cache", str(store(cache)), "--registry", registry()]


def registry() -> str:
    """Return the registry that the host's npm is set up for: what lies in its cache is found by that address."""
    return run(["npm", "config", "get", "registry"]).strip()


def make(base: Path, cache: Path) -> None:
    """Write the project and its lock, and fill the cache by installing it once."""
    if not shutil.which("npm"):
        raise BenchError("npm is not installed")
    fresh = base.with_name(f".{os.getpid()}")
    project, tried = fresh / "project", fresh / "tried"
    try:
        project.mkdir(parents=True)
        (project / "package.json").write_text(json.dumps({"name": "bench", "version": "1.0.0", "dependencies": WANTED}))
        run(["npm", "install", "--package-lock-only", *words(cache)[2:], "--prefix", str(project)])
        shutil.copytree(project, tried)
        run([*words(cache), "--prefix", str(tried)])
        shutil.rmtree(tried)
        fresh.rename(base)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def run(argv: list[str]) -> str:
    """Run npm; return what it says."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"{' '.join(argv[:2])}: {done.stderr.strip()[-300:]}")
    return done.stdout
