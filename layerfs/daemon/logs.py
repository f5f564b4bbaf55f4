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
    logging.getLogger("grpc").setLevel(logging.WARNING)
