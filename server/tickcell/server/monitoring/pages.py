"""The pages of the port for metrics and probes, by path."""

from __future__ import annotations

import http
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from tickcell.server.monitoring.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from tickcell.server.health import Health
    from tickcell.server.monitoring.heartbeat import Heartbeat
    from tickcell.server.monitoring.metrics import Metrics

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"


class Page(NamedTuple):
    """What a request is answered with."""

    status: http.HTTPStatus
    content_type: str
    body: bytes


Pages = Mapping[str, Callable[[], Page]]


def pages(metrics: Metrics, health: Health, heartbeat: Heartbeat) -> Pages:
    """Returns the pages, each made anew whenever it is asked for, from any thread.

    A server is live unless its event loop stands still, and ready while it is live and
    serves. The first two are for Kubernetes, the next two those of the Open Inference
    Protocol, which answers no with 400.
    """

    def live() -> str:
        return f"no event for {heartbeat.silent_s:.0f} s" if heartbeat.is_still else ""

    def ready() -> str:
        if health.is_draining:
            return "draining"
        return live() or ("" if health.is_serving else "the store accepts no commits")

    return shown(metrics.text, live, ready)


def shown(text: Callable[[], bytes], live: Callable[[], str], ready: Callable[[], str]) -> Pages:
    """Returns the pages by what they are made of.

    Args:
      text: gives the metrics.
      live: gives what there is to say against being live; "" for nothing.
      ready: the same of being ready.
    """
    return {
        "/livez": lambda: _probe(live()),
        "/readyz": lambda: _probe(ready()),
        "/v2/health/live": lambda: _open_inference("live", live()),
        "/v2/health/ready": lambda: _open_inference("ready", ready()),
        "/metrics": lambda: Page(http.HTTPStatus.OK, CONTENT_TYPE, text()),
    }


def _probe(complaint: str) -> Page:
    status = http.HTTPStatus.SERVICE_UNAVAILABLE if complaint else http.HTTPStatus.OK
    return Page(status, _TEXT, f"{complaint or 'ok'}\n".encode())


def _open_inference(what: str, complaint: str) -> Page:
    status = http.HTTPStatus.BAD_REQUEST if complaint else http.HTTPStatus.OK
    return Page(
        status, _JSON, b'{"%b": %b}\n' % (what.encode(), b"false" if complaint else b"true")
    )
