"""Lines of the log are JSON, whatever a client sent."""

import json
import logging

import pytest
from grpc._cython import cygrpc

from layerfs.daemon.logs import JsonLines, start_logging


def test_a_line_has_its_fields_and_nothing_raw() -> None:
    record = logging.LogRecord("layerfs.daemon", logging.WARNING, "f", 1, "bad \x1b[31m key\n%s", ("x",), None)
    record.__dict__ |= {"request": 7, "status": "NOT_FOUND", "ms": 1.5, "told": ""}
    line = JsonLines().format(record)
    assert "\x1b" not in line and "\n" not in line
    told = json.loads(line)
    assert (told["level"], told["request"], told["status"], told["ms"]) == ("warning", 7, "NOT_FOUND", 1.5)
    assert "told" not in told


@pytest.mark.parametrize(
    ("logger", "error", "lines"),
    [
        ("grpc._cython.cygrpc", cygrpc.ExecuteBatchError("Failed"), []),
        ("grpc._cython.cygrpc", ValueError("not a message"), ["unexpected: not a message"]),
        ("layerfs.daemon", ValueError("a bug"), ["unexpected"]),
    ],
    ids=["a client has gone", "garbage", "a bug of ours"],
)
def test_no_client_makes_grpc_log_a_traceback(
    logger: str, error: Exception, lines: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        start_logging("info")
        logging.getLogger(logger).error("unexpected", exc_info=error)
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
    told = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["message"] for line in told] == lines
    assert any("traceback" in line for line in told) == (logger == "layerfs.daemon")
