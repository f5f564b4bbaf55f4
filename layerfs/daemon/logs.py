"""Structured logs: one JSON object a line on stderr, which journald keeps, with the number of the request."""

import json
import logging
import time
from typing import Final

FIELDS: Final = ("request", "status", "ms", "told")


class JsonLines(logging.Formatter):
    """time, level, logger, message, and what FIELDS a record has."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        told |= {name: getattr(record, name) for name in FIELDS if getattr(record, name, "") != ""}
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=True)  # nothing that a client sent reaches a terminal raw


def start_logging(level: str) -> None:
    """Send what is logged to stderr, from `level` on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    handler.addFilter(_without_clients_errors)
    logging.getLogger("grpc").setLevel(logging.WARNING)


def _without_clients_errors(record: logging.LogRecord) -> bool:
    """Shorten what grpc logs about a call, which is an error of a client or of its connection: no traceback of grpc's.

    Bugs of ours are logged by `layerfs.daemon.status`. A client that has gone while it is answered is no news at all.
    """
    if record.exc_info and record.name.startswith("grpc"):
        error = record.exc_info[1]
        if type(error).__name__ == "ExecuteBatchError":  # grpc exports no name for it
            return False
        record.msg, record.args = f"{record.getMessage()}: {error}", ()
        record.exc_info = record.exc_text = None
    return True
