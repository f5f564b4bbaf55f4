"""Lines of the log are JSON, whatever a client sent."""

import json
import logging

from layerfs.daemon.logs import JsonLines


def test_a_line_has_its_fields_and_nothing_raw() -> None:
    record = logging.LogRecord("layerfs.daemon", logging.WARNING, "f", 1, "bad \x1b[31m key\n%s", ("x",), None)
    record.__dict__ |= {"request": 7, "status": "NOT_FOUND", "ms": 1.5, "told": ""}
    line = JsonLines().format(record)
    assert "\x1b" not in line and "\n" not in line
    told = json.loads(line)
    assert (told["level"], told["request"], told["status"], told["ms"]) == ("warning", 7, "NOT_FOUND", 1.5)
    assert "told" not in told
