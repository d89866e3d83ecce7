"""What is asked by this protocol is counted and traced like everything else."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from tickcell.conformance.peer import SERVICE, Peer, PeerStream, Refused
from tickcell.server.monitoring.spans import Spans


def refused_counts(server: InProcessServer) -> dict[str, int]:
    return {reason: count for reason, count in server.observer.refused_counts.items() if count}


def test_refusal_is_counted_once_by_each_way(
    server: InProcessServer, peer: Peer, path: Peer | PeerStream
) -> None:
    path.infer(7, start=True)
    with pytest.raises(Refused):
        path.infer(8)
    with pytest.raises(Refused):
        path.infer(7, [501.0])
    assert refused_counts(server) == {"SESSION_UNKNOWN": 1, "FRAME_OUT_OF_RANGE": 1}


def test_refusal_that_ends_its_stream_is_counted_once(server: InProcessServer, peer: Peer) -> None:
    with PeerStream(peer, ("triton_grpc_error", "true")) as stream, pytest.raises(Refused):
        stream.infer(8)
    assert refused_counts(server) == {"SESSION_UNKNOWN": 1}


def test_refusal_of_other_methods_is_counted(server: InProcessServer, peer: Peer) -> None:
    for method in ("ServerLive", "ModelReady"):
        call: Any = peer.channel.unary_unary(f"/{SERVICE}/{method}")
        with pytest.raises(Exception, match="the request is not a"):
            call(b"\xff")
    assert refused_counts(server) == {"MALFORMED": 2}


def test_sequences_are_counted_as_sessions(server: InProcessServer, peer: Peer) -> None:
    peer.infer(7, start=True)
    peer.infer(7)
    peer.infer(7, start=True)
    peer.infer(7, end=True)
    counts = next(each for each in server.observer.models if each.model == "counting")
    assert (counts.applied, counts.created, counts.replaced, counts.deleted) == (4, 2, 1, 1)


def test_each_request_has_a_span() -> None:
    sent = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(sent))
    with (
        InProcessServer([served(CountingCell())], spans=Spans(provider)) as server,
        Peer(server.address) as peer,
    ):
        peer.ask("ServerLive")
        peer.infer(7, start=True)
        with PeerStream(peer) as stream:
            stream.infer(7)
            with pytest.raises(Refused):
                stream.infer(8)
            server.stop()
    provider.shutdown()
    spans = sent.get_finished_spans()
    assert [span.name.rpartition("/")[2] for span in spans] == [
        "ModelInfer",
        "ModelStreamInfer",
        "ModelStreamInfer",
    ]
    reasons = [(span.attributes or {}).get("error.type") for span in spans]
    assert reasons == [None, None, "SESSION_UNKNOWN"]
