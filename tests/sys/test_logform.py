"""Log lines with names that a terminal would obey."""

import logging

from layerfs.sys.logform import LINE, Printable


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
