"""Log lines with names that a terminal would obey."""

import logging
from pathlib import Path

import pytest

from layerfs.sys.dirs import umask
from layerfs.sys.logform import LINE, Printable, private_file


def record(message: str, *arguments: object, exc_info: object = None) -> logging.LogRecord:
    return logging.LogRecord("layerfs.x", logging.WARNING, "x.py", 1, message, arguments, exc_info)  # type: ignore[arg-type]


def test_a_message_is_one_printable_line() -> None:
    text = Printable(LINE).format(record("%s: %s", "a\x1b[31m", "two\nlines"))
    assert text.endswith("WARNING layerfs.x: a\\x1b[31m: two\\nlines")
    assert text.isprintable()


def test_a_traceback_keeps_its_lines_and_shows_nothing_raw() -> None:
    try:
        raise ValueError("a\x1bb")
    except ValueError as error:
        text = Printable("%(message)s").format(record("failed", exc_info=(ValueError, error, error.__traceback__)))
    lines = text.split("\n")
    assert lines[0] == "failed"
    assert lines[-1] == "ValueError: a\\x1bb"
    assert all(line.isprintable() for line in lines)


def test_the_record_itself_is_left_as_it_was() -> None:
    original = record("%s", "a\x1b")
    Printable("%(message)s").format(original)
    assert original.getMessage() == "a\x1b"


@pytest.mark.parametrize("mask", [0, 0o022, 0o277])
def test_a_servers_log_is_its_owners_alone_whatever_the_umask(scratch: Path, mask: int) -> None:
    """A server has the umask 0: its log was open for everybody to write."""
    log = scratch / "7.log"
    handler = private_file(str(log), 100)
    assert not log.exists()
    with umask(mask):
        for _ in range(3):
            handler.emit(record("x" * 60))
    handler.close()
    modes = {path.name: path.stat().st_mode & 0o7777 for path in scratch.iterdir()}
    assert modes == {"7.log": 0o600, "7.log.1": 0o600}


def test_a_log_is_not_written_through_a_symlink(scratch: Path) -> None:
    (scratch / "log").symlink_to("elsewhere")
    handler = private_file(str(scratch / "log"), 100)
    with pytest.raises(OSError):
        handler._open()  # type: ignore[attr-defined]
    handler.close()
    assert not (scratch / "elsewhere").exists()
