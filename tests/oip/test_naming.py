"""`oip.json`: other names, inputs of some sensors each, and axes of one."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest

from doubles.in_process_server import InProcessServer, served
from oip.test_tensors import TwoHeadedCell
from tickcell.conformance.peer import Peer, Refused, request
from tickcell.server.catalogue import ServedModel
from tickcell.server.oip import naming

INTERFACE = TwoHeadedCell().interface
BOTH = [{"name": "OUTPUT__0", "head": "doubled", "dims": [3, 1]}, {"name": "S", "head": "sum"}]


def test_model_without_a_file_has_one_input_and_an_output_for_each_head() -> None:
    assert naming.by_default(INTERFACE) == naming.Naming(
        (naming.Port("frames", (3,), (0, 1, 2)),),
        (naming.Port("sum", (1,), (0,)), naming.Port("doubled", (3,), (1, 2, 3))),
    )


def test_what_a_file_leaves_out_is_as_without_it() -> None:
    read = naming.read(b'{"inputs": [{"name": "INPUT__0", "dims": [1, 3]}]}', INTERFACE)
    assert read.inputs == (naming.Port("INPUT__0", (1, 3), (0, 1, 2)),)
    assert read.outputs == naming.by_default(INTERFACE).outputs


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ([], "cannot be read"),
        ({"input": []}, r"got \['input'\], expected inputs and outputs"),
        ({"inputs": [{"dims": [3]}]}, "cannot be read: KeyError"),
        ({"inputs": [{"name": "a", "shape": [3]}]}, r"inputs: got \['shape'\], expected name"),
        ({"inputs": [{"name": "a", "dims": [2]}]}, r"a: got dims \[2\], expected 3, and else ones"),
        ({"inputs": [{"name": "a", "dims": []}]}, r"a: got dims \[\], expected 3"),
        ({"inputs": [{"name": "a", "dims": [-1, -3]}]}, "a: got dims"),
        ({"inputs": [{"name": "a", "sensors": ["w"]}]}, r"got sensors \['w'\], expected some of"),
        ({"inputs": [{"name": "a", "sensors": ["x"]}]}, r"got sensors \['x'\], expected each of"),
        (
            {"inputs": [{"name": "a", "sensors": ["x", "y"]}, {"name": "b", "sensors": ["y"]}]},
            "expected each of",
        ),
        (
            {"inputs": [{"name": "a", "sensors": ["x", "y"]}, {"name": "a", "sensors": ["z"]}]},
            "got the names",
        ),
        ({"outputs": [{"name": "a", "head": "sum"}]}, r"got head \['sum'\], expected each of"),
        ({"outputs": [{"name": 1, "head": ["sum", "doubled"]}]}, r"got the names \[1\]"),
    ],
)
def test_file_that_does_not_fit_is_refused(said: Any, complaint: str) -> None:
    with pytest.raises(naming.NamingError, match=complaint):
        naming.read(json.dumps(said).encode(), INTERFACE)


def two_headed(directory: pathlib.Path, said: Any) -> ServedModel:
    """Returns a model whose bundle's directory has this `oip.json`."""
    (directory / naming.FILE).write_text(json.dumps(said), encoding="utf-8")
    model = served(TwoHeadedCell(), "heads")
    return ServedModel.of(model.card, model.cell, model.fingerprint, directory)


def test_served_model_has_the_names_and_axes_of_its_file(tmp_path: pathlib.Path) -> None:
    split = [
        {"name": "Z", "sensors": ["z"], "dims": [1, 1]},
        {"name": "XY", "sensors": ["y", "x"], "dims": [2, 1]},
    ]
    model = two_headed(tmp_path, {"inputs": split, "outputs": BOTH})
    with InProcessServer([model]) as server, Peer(server.address) as peer:
        shown = peer.ask("ModelMetadata", name="heads")
        assert [(each.name, list(each.shape)) for each in shown.inputs] == [
            ("Z", [-1, 1, 1]),
            ("XY", [-1, 2, 1]),
        ]
        message = request(7, model="heads", start=True, inputs=[])
        # In another order than the model's own.
        for name, shape, numbers in (("XY", [1, 1, 2, 1], [2, 1]), ("Z", [1, 1, 1, 1], [3])):
            message.inputs.add(name=name, datatype="FP32", shape=shape)
            message.raw_input_contents.append(np.array(numbers, "<f4").tobytes())
        response = peer.call("ModelInfer", message)
        assert [(each.name, list(each.shape)) for each in response.outputs] == [
            ("OUTPUT__0", [1, 1, 3, 1]),
            ("S", [1, 1, 1]),
        ]
        doubled, summed = (
            np.frombuffer(raw, "<f4").tolist() for raw in response.raw_output_contents
        )
        assert (doubled, summed) == ([2.0, 4.0, 6.0], [6.0])

        message = request(7, model="heads", inputs=message.inputs)
        message.inputs[0].shape[:] = [1, 2, 1]
        message.raw_input_contents.extend([np.zeros(2, "<f4").tobytes(), bytes(4)])
        with pytest.raises(Refused, match="XY: got another axis of time, expected that of"):
            peer.send(message)
        message.inputs[0].shape[:] = [1, 1, 2, 1]
        message.inputs[1].name = "XY"
        with pytest.raises(Refused, match="inputs: got 'XY', expected 'Z'"):
            peer.send(message)


def test_model_whose_file_does_not_fit_is_served_natively_only(tmp_path: pathlib.Path) -> None:
    model = two_headed(tmp_path, {"inputs": [{"name": "a", "dims": [7]}]})
    with InProcessServer([model]) as server, Peer(server.address) as peer:
        (entry,) = peer.ask("RepositoryIndex").models
        assert (entry.name, entry.state) == ("heads", "UNAVAILABLE")
        assert "a: got dims [7], expected 3" in entry.reason
        with pytest.raises(Refused, match=r"oip\.json: a: got dims"):
            peer.infer(7, model="heads", start=True)
