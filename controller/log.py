"""Logging: lines for people, or JSON objects for machines. Fields go in ``extra={"salvus": {…}}``."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping

LOGGER = logging.getLogger("salvus")


def log(level: int, message: str, **fields: object) -> None:
    """One line with fields: ``log(logging.INFO, "pass", machine="web01", result="changed")``."""
    LOGGER.log(level, message, extra={"salvus": fields})


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields = getattr(record, "salvus", {})
    return fields if isinstance(fields, Mapping) else {}


class Lines(logging.Formatter):
    """``2026-11-24T02:00:00Z INFO message key=value``: time in UTC, as in RFC 3339."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        pairs = "".join(f" {key}={json.dumps(value, default=str)}" for key, value in _fields(record).items())
        text = f"{at} {record.levelname} {record.getMessage()}{pairs}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        line: dict[str, object] = {"time": record.created, "level": record.levelname, "message": record.getMessage()}
        line.update(_fields(record))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(style: str, level: str) -> None:
    """Sends salvus' own log to stderr in one of the styles ``text`` and ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if style == "json" else Lines())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(level.upper())
    LOGGER.propagate = False
