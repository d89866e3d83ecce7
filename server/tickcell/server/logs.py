"""Log lines on standard error: for people, or a JSON object each."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Literal

Format = Literal["text", "json"]


class _Formatter(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name.
        del datefmt
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        return time.isoformat(timespec="milliseconds")


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class _Departures(logging.Filter):
    """Says in a line what gRPC gives a traceback for: that a caller left amid its answer."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        if kind is not None and kind.__name__ == "ExecuteBatchError":
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = "a caller left before it had its answer", ()
            record.exc_info = record.exc_text = None
        return True


def configure(format_: Format) -> None:
    """Sends what is logged to standard error, in one of the two formats."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter()
        if format_ == "json"
        else _Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    handler.addFilter(_Departures())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
