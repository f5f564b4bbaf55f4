"""Trees that a program works in: a git repository and the sources of a C project, their directories spread over layers.

repo   20,000 small files in 400 directories under git, all committed; `.git` is in the lowest layer
csrc   200 C files and 50 headers in 20 directories, with a Makefile
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.model import BenchError, BuiltTree
from benchmarks.trees.synthetic import VERSION, lists_of

REPO = (400, 50)
CSRC = (20, 10)
GIT = (
    "git",
    "-c",
    "user.name=bench",
    "-c",
    "user.email=bench@localhost",
    "-c",
    "core.checkStat=minimal",
    "-c",
    "core.trustctime=false",
    "-c",
    "gc.auto=0",
)
"""minimal: the index then compares sizes and times, not inode numbers, which differ between copies of the tree."""


def build(name: str, layers: int, cache: Path) -> BuiltTree:
    """Build or find the tree; above one layer it is a copy of the flat one, directory by directory."""
    home = cache / "trees" / VERSION / name
    final = home / str(layers)
    if not final.exists():
        if layers > 1:
            build(name, 1, cache)
        fresh = home / f".{layers}.{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            if layers == 1:
                write(name, fresh / "000")
            else:
                distribute(home / "1/000", [fresh / f"{index:03d}" for index in range(layers)])
            fresh.rename(final)
        except (OSError, subprocess.CalledProcessError) as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise BenchError(f"cannot build the tree {name}: {error}") from error
    present, absent = lists_of(home / "1", home / "1/000")
    lowers = tuple(final / f"{index:03d}" for index in range(layers))
    return BuiltTree(name, lowers, home / "1/000", present, absent, present.read_bytes().count(b"\0"))


def write(name: str, root: Path) -> None:
    """Write the flat tree."""
    for path, text in repository() if name == "repo" else sources():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    if name == "repo":
        for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "all")):
            subprocess.run([*GIT, "-C", str(root), *words], check=True, capture_output=True)


def distribute(flat: Path, layers: list[Path]) -> None:
    """Copy each directory of the top level into one layer, `.git` and single files into the lowest."""
    for layer in layers:
        layer.mkdir(parents=True)
    directories = sorted(entry.name for entry in os.scandir(flat) if entry.is_dir() and entry.name != ".git")
    for entry in os.scandir(flat):
        index = directories.index(entry.name) % len(layers) if entry.name in directories else len(layers) - 1
        subprocess.run(["cp", "-a", entry.path, str(layers[index])], check=True)


def repository() -> Iterator[tuple[str, str]]:
    """Yield paths and texts of a repository."""
    seed = random.Random("repo")
    for directory in range(REPO[0]):
        for index in range(REPO[1]):
            lines = (f"line {seed.getrandbits(64):x}\n" for _ in range(seed.randrange(5, 60)))
            yield f"d{directory:03d}/f{index:02d}.txt", "".join(lines)


def sources() -> Iterator[tuple[str, str]]:
    """Yield paths and texts of a C project: every file includes the system's headers and five of its own."""
    seed = random.Random("csrc")
    headers = [f"d{index % CSRC[0]:02d}/h{index:02d}.h" for index in range(50)]
    for index, path in enumerate(headers):
        yield path, f"#pragma once\nstatic inline int h{index}(int x) {{ return x * {seed.randrange(1, 99)} + 1; }}\n"
    for number in range(CSRC[0] * CSRC[1]):
        used = seed.sample(range(50), 5)
        includes = "".join(f'#include "../{headers[index]}"\n' for index in used)
        body = " + ".join(f"h{index}(x)" for index in used)
        standard = "".join(f"#include <{name}.h>\n" for name in ("stdio", "stdlib", "string"))
        function = f"int s{number}(int x) {{ return {body}; }}\n"
        yield f"d{number % CSRC[0]:02d}/s{number:03d}.c", standard + includes + function
    yield (
        "Makefile",
        (
            "objects := $(patsubst %.c,%.o,$(wildcard d*/*.c))\nlib.a: $(objects)\n\tar rcs $@ $(objects)\n"
            "%.o: %.c\n\tcc -O1 -c -o $@ $<\n"
        ),
    )
