"""The command line as a whole: verbs, exit status, and errors in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from layerfs import __version__
from layerfs.cli.parser import VERBS
from tests.host import BIN, PROJECT, Person, require
from tests.waiting import PATIENCE


def run(*words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    command = [str(BIN / "layerfs"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, input=stdin)


def test_the_version_is_printed() -> None:
    assert run("--version").stdout == f"layerfs {__version__}\n"


def test_help_names_every_verb() -> None:
    shown = run("--help").stdout
    for verb in VERBS:
        assert f"    {verb}" in shown


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "bench"])
def test_every_verb_has_help(verb: str) -> None:
    done = run(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: layerfs {verb}" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "required: VERB (layerfs --help lists them)"),
        (["--verzion"], 'unrecognized arguments: --verzion (did you mean "--version"?)'),
        (["-x"], "unrecognized arguments: -x"),
        (["image", "pull", "x"], "invalid choice: 'pull' (did you mean \"layerfs pull\"?)"),
        (["frobnicate"], "invalid choice: 'frobnicate' (choose from 'mount'"),
        (["moutn"], "invalid choice: 'moutn' (did you mean \"mount\"?)"),
        (["mount", "--uper", "u", "a", "m"], 'unrecognized arguments: --uper (did you mean "--upper"?)'),
        (["mount", "--driver=fues", "a", "m"], '(did you mean "fuse"?)'),
        (["xar", "biuld"], '(did you mean "build"?)'),
        (["mount", "-o", "lazytme", "a", "m"], 'did you mean "lazytime"?'),
        (["mount", "-o", "workdir=u", "a", "m"], "workdir without upperdir"),
        (["run", "--work", "w", "a", "--", "true"], "--work without --upper"),
        (["status", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["umount"], "MOUNTPOINT"),
        (["status", "a", "b"], "unrecognized arguments: b"),
    ],
)
def test_wrong_usage_exits_with_two(words: list[str], said: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(
        f"{BIN}/layerfs status --json | true; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout in ("0\n", "1\n")


def test_modules_that_are_put_off_work_when_they_are_asked() -> None:
    code = """
import sys
from layerfs.cli.main import _hurry
_hurry()
import dataclasses, inspect
assert "ast" not in sys.modules
assert inspect.isfunction(_hurry) and "ast" in sys.modules
import inspect as again
assert again.signature(_hurry) and again is not inspect
"""
    subprocess.run([sys.executable, "-S", "-c", code], check=True, timeout=PATIENCE, cwd=PROJECT)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_matter(closed: str, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for words in ("xar build tree -o a.xar", "xar verify a.xar", "xar graph a.xar", "status"):
        command = ["sh", "-c", f"exec {BIN / 'layerfs'} {words} {closed}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")


def test_what_is_run_finds_closed_streams_closed() -> None:
    program = "import os; from layerfs.cli import main; main._hurry(); os.execlp('ls', 'ls', '/proc/self/fd')"
    command = ["sh", "-c", f'exec {sys.executable} -c "{program}" <&- 2>&-']
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.split() == ["0", "1"]  # 0 is how `ls` reads that directory


@pytest.mark.mounts
def test_a_caller_that_ignores_the_ends_of_its_children_is_no_matter(person: Person) -> None:
    """fusermount3 had mounted, waiting for it failed, and a dead mount stayed."""
    require("fuse")
    layer, mountpoint = person.home / "layer", person.home / "m"
    person.owns(layer, mountpoint)
    (layer / "file").write_text("hello")
    code = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execvp(sys.argv[1], sys.argv[1:])"
    person.run([sys.executable, "-c", code, "layerfs", "mount", "--driver=fuse", layer, mountpoint])
    try:
        assert person.run(["cat", mountpoint / "file"]).stdout == "hello"
    finally:
        person.run(["layerfs", "umount", mountpoint])
