"""Log lines on standard error: for people, or a JSON object each."""

from __future__ import annotations

import datetime
import json
import logging
import sys
import traceback
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


# What callers do, and gRPC gives a traceback for.
_CALLERS_DOINGS = {
    "ExecuteBatchError": "a caller left before it had its answer",
    "UnicodeDecodeError": "a caller sent a method's name or metadata that is not UTF-8",
}


class _CallersDoings(logging.Filter):
    """Says in a line what callers do, since a traceback shows a fault of ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.exc_info:
            return True
        kind, error, _ = record.exc_info
        if kind is None or error is None:
            # There is none to show, whatever gRPC thinks.
            record.exc_info = None
        elif kind.__name__ in _CALLERS_DOINGS and _is_raised_in_grpc(error):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = _CALLERS_DOINGS[kind.__name__], ()
            record.exc_info = record.exc_text = None
        return True


def _is_raised_in_grpc(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and "/grpc/_cython/" in frames[-1].filename


def configure(format_: Format) -> None:
    """Sends what is logged to standard error, in one of the two formats."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter()
        if format_ == "json"
        else _Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    handler.addFilter(_CallersDoings())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
