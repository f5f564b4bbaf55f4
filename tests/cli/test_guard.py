"""Errors in one line, with the exit status that says of what kind they are."""

from pathlib import Path

import pytest

from layerfs.cli.guard import MOST, guard
from layerfs.errors import MAKE_ROOM, InvalidArgument, WrongUsage


def raising(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InvalidArgument("no", "do"), "layerfs: no (hint: do)\n"),
        (InvalidArgument("no"), "layerfs: no\n"),
        (FileNotFoundError(2, "No such file or directory", b"/\xff"), "layerfs: /\\xff: No such file or directory\n"),
        (OSError(5, "Input/output error"), "layerfs: Input/output error\n"),
        (OSError(28, "No space left on device", b"/s"), f"layerfs: /s: No space left on device (hint: {MAKE_ROOM})\n"),
        (PermissionError("just words"), "layerfs: just words\n"),
    ],
)
def test_errors_become_one_line(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert guard(lambda: raising(error)) == 1
    assert capsys.readouterr().err == line


def test_a_bug_is_one_line_and_a_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, scratch: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    assert guard(lambda: raising(ZeroDivisionError("oops"))) == 1
    said = capsys.readouterr().err
    (log,) = scratch.iterdir()
    assert said == f"layerfs: a bug: ZeroDivisionError: oops (hint: please report it with {log})\n"
    assert "Traceback" in log.read_text()


def test_an_interrupt_has_the_shells_exit_status() -> None:
    assert guard(lambda: raising(KeyboardInterrupt())) == 130


def test_wrong_usage_has_a_status_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard(lambda: raising(WrongUsage("no such option"))) == 2
    assert capsys.readouterr().err == "layerfs: no such option\n"


def test_control_characters_of_names_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard(lambda: raising(FileNotFoundError(2, "No such file", b"a\x1b[31m\n"))) == 1
    assert capsys.readouterr().err == "layerfs: a\\x1b[31m\\n: No such file\n"


def test_a_message_with_an_endless_name_is_cut_and_keeps_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard(lambda: raising(InvalidArgument("x" * 1_000_000, "shorten it"))) == 1
    said = capsys.readouterr().err
    assert len(said) < MOST + 100
    assert " ... " in said
    assert said.endswith("x (hint: shorten it)\n")
