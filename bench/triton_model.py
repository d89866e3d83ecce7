"""A recurrent cell behind Triton's sequence batcher, as its users write it for the Python backend.

Triton imports it by the `model.py` of a version in its repository. It keeps the state of each
sequence in its process and steps the same cell as tickcell's server, all that Triton hands
over at a time together.
"""

from __future__ import annotations

import numpy as np
import triton_python_backend_utils as triton

from tickcell.model import Bundle


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, _: object) -> None:
        """Loads the cell."""
        bundle = Bundle.load()
        self._cell = bundle.cell()
        self._output = bundle.interface.heads[0].name
        self._states: dict[int, np.ndarray] = {}

    def execute(self, requests: list[triton.InferenceRequest]) -> list[triton.InferenceResponse]:
        """Advances the sequences of some requests, each by one frame."""
        frames, states = [], []
        for request in requests:
            sequence = request.correlation_id()
            if request.flags() & triton.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START:
                self._states[sequence] = self._cell.initial_state()
            frames.append(triton.get_input_tensor_by_name(request, "frames").as_numpy())
            states.append(self._states[sequence])
        outputs, next_states = self._cell.step(np.concatenate(frames), np.concatenate(states))
        responses = []
        for place, request in enumerate(requests):
            sequence, row = request.correlation_id(), slice(place, place + 1)
            self._states[sequence] = next_states[row]
            if request.flags() & triton.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END:
                del self._states[sequence]
            outputs_of_it = triton.Tensor(self._output, outputs[row])
            responses.append(triton.InferenceResponse([outputs_of_it]))
        return responses
