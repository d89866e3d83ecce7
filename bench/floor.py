"""The floor: the plainest gRPC servers that Triton's tool can measure.

Each takes a request's raw bytes and answers with a reply in which nothing changes but the
request's id. So they tell what grpcio costs in its two ways of serving: `aio`, which
tickcell's server is built on, and `threads`. Whatever else the tool asks for, a tickcell
server answers.

Run as a program it serves on a free port, which it prints, until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc

from bench.serving import Serving
from tickcell.cli import event_engine
from tickcell.server.oip.protocol import SERVICE, pb

KINDS = ("aio", "threads")

_HERE = pathlib.Path(__file__).resolve().parents[1]
# The most calls and streams that the threads answer at a time.
_THREADS = 64
# Fields of texts and messages, each up to 127 bytes long: a tag, a length, and the bytes.
_ID_TAG = pb.ModelInferRequest.DESCRIPTOR.fields_by_name["id"].number << 3 | 2
_REPLY_TAG = pb.ModelStreamInferResponse.DESCRIPTOR.fields_by_name["infer_response"].number << 3 | 2
_REPLY: bytes = pb.ModelInferResponse(
    model_name="drive",
    model_version="1",
    outputs=[{"name": "aggressive", "datatype": "FP32", "shape": (1, 1)}],
    raw_output_contents=[bytes(4)],
).SerializeToString()


class Floor:
    """Answers requests, and counts them."""

    def __init__(self) -> None:
        self._count = 0

    def reply(self, encoded: bytes) -> bytes:
        """Returns the reply to a request."""
        self._count += 1
        # Before the id, if there is one, are the model's name and perhaps its version.
        start = 0
        while encoded[start] < _ID_TAG:
            start += 2 + encoded[start + 1]
        if encoded[start] != _ID_TAG:
            return _REPLY
        return _REPLY + encoded[start : start + 2 + encoded[start + 1]]

    def reply_in_stream(self, encoded: bytes) -> bytes:
        """Returns the reply to a request of a stream."""
        reply = self.reply(encoded)
        return bytes((_REPLY_TAG, len(reply))) + reply

    def counted(self, encoded: bytes) -> bytes:
        """Returns statistics with our count; the tool wants to see it grow."""
        found = pb.ModelStatisticsResponse.FromString(encoded)
        for each in found.model_stats:
            each.inference_count = each.execution_count = self._count
            stats = each.inference_stats
            stats.success.count = stats.queue.count = self._count
        counted: bytes = found.SerializeToString()
        return counted


async def _serve_aio(upstream: str) -> None:
    floor = Floor()

    async def infer(encoded: bytes, _: Any) -> bytes:
        return floor.reply(encoded)

    async def stream(_: Any, context: Any) -> None:
        while (encoded := await context.read()) is not grpc.aio.EOF:
            await context.write(floor.reply_in_stream(encoded))

    server = grpc.aio.server()
    with grpc.insecure_channel(upstream) as channel:
        server.add_generic_rpc_handlers([_handlers(channel, floor, infer, stream)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        _say(port)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await server.stop(None)


def _serve_threads(upstream: str) -> None:
    floor = Floor()

    def infer(encoded: bytes, _: Any) -> bytes:
        return floor.reply(encoded)

    def stream(requests: Iterator[bytes], _: Any) -> Iterator[bytes]:
        return map(floor.reply_in_stream, requests)

    server = grpc.server(futures.ThreadPoolExecutor(_THREADS))
    with grpc.insecure_channel(upstream) as channel:
        server.add_generic_rpc_handlers([_handlers(channel, floor, infer, stream)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        _say(port)
        sys.stdin.read()
        server.stop(None)


def _handlers(
    channel: grpc.Channel, floor: Floor, infer: Any, stream: Any
) -> grpc.GenericRpcHandler:
    """Returns all methods of the service; those that are called seldom, by threads."""

    def forwarded(method: str) -> Any:
        ask: Any = channel.unary_unary(f"/{SERVICE.full_name}/{method}")
        if method == "ModelStatistics":
            return lambda encoded, _: floor.counted(ask(encoded))
        return lambda encoded, _: ask(encoded)

    methods: dict[str, Any] = {
        method.name: grpc.unary_unary_rpc_method_handler(forwarded(method.name))
        for method in SERVICE.methods
    }
    methods["ModelInfer"] = grpc.unary_unary_rpc_method_handler(infer)
    methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(stream)
    return grpc.method_handlers_generic_handler(SERVICE.full_name, methods)


def _say(port: int) -> None:
    sys.stdout.write(f"127.0.0.1:{port}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def serving(kind: str, upstream: str) -> Iterator[Serving]:
    """Runs one of them in a process of its own.

    Args:
      kind: one of `KINDS`.
      upstream: the address of the tickcell server that answers what is not inferred.
    """
    # As quick as they can be: without the engine, as the server that they stand beside.
    switches = event_engine.switches_of(grpc.__version__)
    with subprocess.Popen(
        [sys.executable, "-m", "bench.floor", kind, upstream],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_HERE,
        env={"GRPC_EXPERIMENTS": switches, **os.environ},
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        yield Serving(child.stdout.readline().strip(), child.pid)
        child.stdin.close()


if __name__ == "__main__":
    _, _kind, _upstream = sys.argv
    if _kind == "threads":
        _serve_threads(_upstream)
    else:
        asyncio.run(_serve_aio(_upstream))
