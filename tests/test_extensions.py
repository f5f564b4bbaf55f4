"""The extensions are built of every file of C that is in their packages, and Python sees what the headers say."""

import os
import re
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from layerfs.extensions import HEADERS, PROGRAM_FLAGS, builder, compile_program, room_of, settings
from tests.host import PROJECT

EXTENSIONS = settings(PROJECT)


def test_every_extension_has_its_headers() -> None:
    assert {extension["name"] for extension in EXTENSIONS} == set(HEADERS)


@pytest.mark.parametrize("extension", EXTENSIONS, ids=lambda extension: extension["name"])
def test_every_file_of_c_is_built_and_every_header_looked_at(extension: dict[str, Any]) -> None:
    room = PROJECT / room_of(extension["name"])
    here = {str(path.relative_to(PROJECT)) for path in room.glob("*.[ch]")}
    assert {*extension["sources"], *extension["depends"]} == here


@pytest.mark.parametrize("module", HEADERS)
def test_what_the_headers_declare_is_there(module: str) -> None:
    lib = import_module(module).lib
    text = "".join((PROJECT / room_of(module) / header).read_text() for header in HEADERS[module])
    names = set(re.findall(r"\b(?:squash|sw|lane|batch)_\w+(?=\()", text))
    assert names
    assert {name for name in names if not hasattr(lib, name)} == set()


def test_sizes_are_those_of_the_headers() -> None:
    assert builder(PROJECT, "layerfs.pysquashfs._squashfs").sizeof("squash_blocks") > 14336


def run(program: Path) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"LAYERFS_STANDBY": "no"}
    return subprocess.run([program, "a b", "-o"], env=environment, capture_output=True, text=True, check=False)


def test_the_program_is_compiled_without_a_warning_and_becomes_the_one_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerfs.extensions.PROGRAM_FLAGS", (*PROGRAM_FLAGS, "-Werror"))
    program, python = tmp_path / "layerfs-mount", tmp_path / "layerfs-start"
    compile_program(PROJECT, program)
    done = run(program)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"layerfs: {python} cannot be started: No such file or directory (hint: ")
    python.write_text('#!/bin/sh\nprintf "<%s>" "$@"; exit 3\n')
    python.chmod(0o755)
    (tmp_path / "link").symlink_to(program)
    for name in (program, tmp_path / "link"):
        done = run(name)
        assert (done.returncode, done.stdout, done.stderr) == (3, "<layerfs-mount><a b><-o>", "")
