"""A caller that speaks the Open Inference Protocol in raw messages."""

from __future__ import annotations

import importlib
import queue
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from typing import Self

# Of the extra `triton`, which callers of the native protocol do without.
pb: Any = importlib.import_module("tritonclient.grpc.service_pb2")
service_pb2_grpc: Any = importlib.import_module("tritonclient.grpc.service_pb2_grpc")

# Longer than any call takes on a loaded machine, so that a hang is a failure.
PATIENCE_S = 30.0
SERVICE = "inference.GRPCInferenceService"

# As Triton has it.
MUST_START = "must specify the START flag on the first request of the sequence"


class Refused(Exception):
    """A request was refused.

    Attributes:
      code: the name of the status code; "" in a stream, whose callers see none.
      reason: of the ErrorInfo; "" in a stream.
      request_id: in the response of a stream.
    """

    def __init__(self, text: str, code: str = "", reason: str = "", request_id: str = "") -> None:
        super().__init__(text)
        self.code, self.reason, self.request_id = code, reason, request_id

    @classmethod
    def of(cls, error: Any) -> Refused:
        """Returns the refusal that a call ended with."""
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
        reason = ""
        if details:
            status = status_pb2.Status.FromString(details)
            assert (status.code, status.message) == (error.code().value[0], error.details())
            info = error_details_pb2.ErrorInfo()
            detail = status.details[0]
            assert detail.Unpack(info)
            reason = info.reason
        return cls(error.details(), error.code().name, reason)


def request(
    sequence: int | str | None = None,
    readings: Sequence[float] | np.ndarray = (1.0,),
    *,
    model: str = "counting",
    input_name: str = "frames",
    start: bool = False,
    end: bool = False,
    life: str = "",
    step: int | None = None,
    uint64: bool = False,
    **fields: Any,
) -> Any:
    """Returns an inference request.

    Args:
      sequence: the correlation id; None for none.
      readings: a frame of one sensor, several such frames, or a tensor with its axes.
      model: its name.
      input_name: of its one input.
      start: whether the sequence starts.
      end: whether it ends.
      life: the UUID of the life; "" for none.
      step: of the first frame in that life; None for none.
      uint64: whether a whole number goes as an unsigned one.
      **fields: of the message.
    """
    array = np.asarray(readings, np.float32)
    if array.ndim == 1 and len(array) != 1:
        array = array.reshape(1, -1, 1)
    shape = array.shape if array.ndim > 1 else (1, *array.shape)
    message = pb.ModelInferRequest(model_name=model, **fields)
    if not fields.keys() & {"inputs", "raw_input_contents"}:
        message.inputs.add(name=input_name, datatype="FP32", shape=shape)
        message.raw_input_contents.append(array.astype("<f4").tobytes())
    parameters = message.parameters
    if isinstance(sequence, str):
        parameters["sequence_id"].string_param = sequence
    elif sequence is not None and uint64:
        parameters["sequence_id"].uint64_param = sequence
    elif sequence is not None:
        parameters["sequence_id"].int64_param = sequence
    for name, flag in (("sequence_start", start), ("sequence_end", end)):
        if flag:
            parameters[name].bool_param = True
    if life:
        parameters["sequence_life"].string_param = life
    if step is not None:
        parameters["sequence_step"].int64_param = step
    return message


def outputs(response: Any) -> list[float]:
    """Returns the numbers of a response with one output."""
    (raw,) = response.raw_output_contents
    numbers: list[float] = np.frombuffer(raw, "<f4").tolist()
    return numbers


class Peer:
    """A channel to a server.

    Attributes:
      stub: of the service.
    """

    def __init__(self, address: str = "", channel: grpc.Channel | None = None) -> None:
        """Opens a channel to an address, or takes one that is open."""
        self.channel = channel or grpc.insecure_channel(
            address, [("grpc.use_local_subchannel_pool", 1)]
        )
        self.stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def call(self, method: str, message: Any) -> Any:
        """Calls a method; a refusal is raised."""
        try:
            return getattr(self.stub, method)(message, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            raise Refused.of(error) from None

    def send(self, message: Any) -> list[float]:
        """Sends an inference request, and returns the numbers of its answer."""
        return outputs(self.call("ModelInfer", message))

    def infer(self, *arguments: Any, **options: Any) -> list[float]:
        """Sends an inference request, and returns the numbers of its answer; see `request`."""
        return self.send(request(*arguments, **options))

    def ask(self, method: str, **fields: Any) -> Any:
        """Calls a method with a request of these fields."""
        return self.call(method, getattr(pb, f"{method}Request")(**fields))


class PeerStream:
    """A stream of inference requests."""

    def __init__(
        self, peer: Peer, *metadata: tuple[str, str], patience_s: float = PATIENCE_S
    ) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        method: Any = peer.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")
        self._call = method(self._each(), metadata=metadata, timeout=patience_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.put(None)
        self._call.cancel()

    def send(self, message: Any) -> list[float]:
        """Sends a request, and returns the numbers of its answer; a refusal is raised."""
        return outputs(self.exchange(message))

    def exchange(self, message: Any) -> Any:
        """Sends a request, and returns its response; a refusal is raised."""
        self.put(message)
        return self.receive()

    def put(self, message: Any) -> None:
        """Sends a request, whose answer is received later."""
        self._requests.put(message if isinstance(message, bytes) else message.SerializeToString())

    def infer(self, *arguments: Any, **options: Any) -> list[float]:
        """Sends an inference request, and returns the numbers of its answer; see `request`."""
        return self.send(request(*arguments, **options))

    def receive(self) -> Any:
        """Returns the next response; a refusal is raised."""
        try:
            response = pb.ModelStreamInferResponse.FromString(next(self._call))
        except grpc.RpcError as error:
            raise Refused.of(error) from None
        if response.error_message:
            raise Refused(response.error_message, request_id=response.infer_response.id)
        return response.infer_response

    def _each(self) -> Iterator[bytes]:
        while (encoded := self._requests.get()) is not None:
            yield encoded
