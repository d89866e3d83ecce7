"""A bundle: a directory with everything needed to serve one version of a model.

    interface.json   sensors, state tensors and outputs: what a program must match
    step.tflite      one step, raw sensor units in
    steps.tflite     several steps of one series in one call, to the same bits (optional)
    card.json        name, version, rate, what each output means, how it was trained
    golden.npz       frames and the outputs of the Keras model over the whole sequence
    model.keras      the trained model, to resume from and to cross-check (optional)
    SHA256SUMS       of the other files, as `sha256sum --check` reads them

The fingerprint is SHA-256 over `step.tflite` and `interface.json`: what is computed.
Loading verifies it, and never runs code from the bundle. Other files that have changed
since the bundle was written, such as the card, are used, with a warning; but a changed
`steps.tflite`, or one with different bits, is not used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import os
import pathlib
import re
from typing import TYPE_CHECKING

import numpy as np

from tickcell.model import directory_exchange, probe
from tickcell.model.card import BundleError as BundleError
from tickcell.model.card import Card as Card
from tickcell.model.cell import CellError, LiteRTCell
from tickcell.model.interface import Interface, InterfaceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHIPPED = pathlib.Path(__file__).parent / "bundles" / "drive"

_STEPS = "steps.tflite"
FILES = ("interface.json", "step.tflite", _STEPS, "card.json", "golden.npz", "model.keras")
SUMS = "SHA256SUMS"
_SUM = re.compile(r"([0-9a-f]{64})  (\S+)")

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """Frames and what Keras made of them, so that the promise can be checked without it.

    Attributes:
      frames: `[T, F]` float32.
      outputs: `[T, O]` float32, of the Keras model over the whole sequence.
      labels: `[T]` float32, or None.
    """

    frames: NDArray[np.float32]
    outputs: NDArray[np.float32]
    labels: NDArray[np.float32] | None = None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """One version of a model, as read from a directory or about to be written to one.

    Raises BundleError where the card speaks of other outputs than the interface has.
    """

    interface: Interface
    card: Card
    step_graph: bytes
    golden: Golden
    path: pathlib.Path | None = None
    steps_graph: bytes | None = None

    def __post_init__(self) -> None:
        self.card.check(self.interface.heads)

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hexadecimal over the step's graph and the interface."""
        return fingerprint(self.step_graph, self.interface.to_json())

    @property
    def keras_path(self) -> pathlib.Path | None:
        """The trained Keras model, where the bundle has it."""
        if self.path is None or not (self.path / "model.keras").is_file():
            return None
        return self.path / "model.keras"

    def cell(self) -> LiteRTCell:
        """Builds the cell that runs the step in this process.

        Raises:
          BundleError: the graph does not fit the interface.
          MissingExtraError: LiteRT is not installed.
        """
        try:
            return cell_of(self.step_graph, self.interface, self.steps_graph)
        except CellError as error:
            raise BundleError(f"{self.path or self.card.name}: {error}") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str] = SHIPPED) -> Bundle:
        """Reads and verifies a bundle; without a path, the one that ships with tickcell.

        Raises:
          BundleError: it is missing, incomplete, damaged or tampered with.
        """
        directory = pathlib.Path(path)
        if not directory.is_dir():
            raise BundleError(f"{directory}: is not a bundle's directory.")
        interface_json = _read(directory / "interface.json")
        step_graph = _read(directory / "step.tflite")
        card, expected = _read_card(directory / "card.json")
        got = fingerprint(step_graph, interface_json)
        if got != expected:
            raise BundleError(
                f"{directory}: step.tflite and interface.json have the fingerprint {got}, "
                f"card.json says {expected}; one of them was changed: export the bundle again."
            )
        try:
            interface = Interface.from_json(interface_json)
        except InterfaceError as error:
            raise BundleError(f"{directory / 'interface.json'}: {error}") from error
        if interface.to_json() != interface_json:
            raise BundleError(
                f"{directory / 'interface.json'}: is not in the form that tickcell writes; export "
                "the bundle again."
            )
        golden = _read_golden(directory / "golden.npz", interface)
        stated = _compare_sums(directory)
        steps_graph = _read_steps(directory / _STEPS, stated.get(_STEPS))
        try:
            return cls(interface, card, step_graph, golden, directory, steps_graph)
        except BundleError as error:
            raise BundleError(f"{directory / 'card.json'}: {error}") from error

    def write(
        self,
        path: str | os.PathLike[str],
        keras_model: bytes | None = None,
        *,
        replace: bool = False,
    ) -> None:
        """Writes the bundle to a directory, which holds it whole or is unchanged.

        Args:
          path: of the directory.
          keras_model: the content of `model.keras`, if it is to be part of the bundle.
          replace: whether the directory may have something in it, which then goes.

        Raises:
          BundleError: the directory is not empty.
          OSError: it cannot be written.
        """
        directory = pathlib.Path(path)
        if not replace and directory.exists() and any(directory.iterdir()):
            raise BundleError(f"{directory}: is not empty; name a new directory.")
        with directory_exchange.placed(directory) as new:
            self._write_files(new, keras_model)

    def _write_files(self, directory: pathlib.Path, keras_model: bytes | None) -> None:
        (directory / "interface.json").write_bytes(self.interface.to_json())
        (directory / "step.tflite").write_bytes(self.step_graph)
        if self.steps_graph is not None:
            (directory / _STEPS).write_bytes(self.steps_graph)
        arrays = {"frames": self.golden.frames, "outputs": self.golden.outputs}
        if self.golden.labels is not None:
            arrays["labels"] = self.golden.labels
        np.savez_compressed(directory / "golden.npz", allow_pickle=False, **arrays)
        if keras_model is not None:
            (directory / "model.keras").write_bytes(keras_model)
        card = {**self.card.to_fields(), "fingerprint": self.fingerprint}
        (directory / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        sums = [f"{_sum(file)}  {file.name}\n" for file in sorted(directory.iterdir())]
        (directory / SUMS).write_text("".join(sums), encoding="utf-8")


def fingerprint(step_graph: bytes, interface_json: bytes) -> str:
    """Returns SHA-256 in hexadecimal over the step's graph, then the interface."""
    # One after the other: to join them would copy a graph, with all others waiting for it.
    digest = hashlib.sha256(step_graph)
    digest.update(interface_json)
    return digest.hexdigest()


def cell_of(
    step_graph: bytes, interface: Interface, steps_graph: bytes | None = None
) -> LiteRTCell:
    """Builds the cell that runs a graph, proven on the frames that follow from both.

    Args:
      step_graph: the bytes of a `.tflite` file.
      interface: what it takes and gives.
      steps_graph: the same of several steps; None for none.

    Raises:
      CellError: the graph does not fit the interface.
      MissingExtraError: LiteRT is not installed.
    """
    frames = probe.frames(fingerprint(step_graph, interface.to_json()), interface)
    return LiteRTCell(step_graph, interface, frames, steps_graph)


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}.") from error


def _sum(path: pathlib.Path) -> str:
    return hashlib.sha256(_read(path)).hexdigest()


def _compare_sums(directory: pathlib.Path) -> dict[str, str]:
    """Warns of files that have changed since they were written; returns the stated hash of each."""
    if not (directory / SUMS).is_file():
        _log.warning("%s: has no %s, so changes of its files cannot be detected.", directory, SUMS)
        return {}
    try:
        lines = _read(directory / SUMS).decode("ascii").splitlines()
    except UnicodeDecodeError:
        lines = [""]
    matches = [_SUM.fullmatch(line) for line in lines]
    stated = {match[2]: match[1] for match in matches if match}
    if len(stated) != len(lines):
        _log.warning("%s: has changed since it was written.", directory / SUMS)
    for name in sorted({*stated, *FILES} - {_STEPS}):
        path = directory / name
        got = _sum(path) if path.is_file() else None
        if got != stated.get(name):
            _log.warning(
                "%s: was changed after the bundle was written; the computation was not.", path
            )
    return stated


def _read_steps(path: pathlib.Path, stated: str | None) -> bytes | None:
    """Returns the graph of several steps, if it is the one that was written."""
    if stated is None and not path.exists():
        return None
    graph = _read(path) if path.is_file() else b""
    if hashlib.sha256(graph).hexdigest() == stated:
        return graph
    _log.warning(
        "%s: does not match %s; it is not used, so each step is a separate call.", path, SUMS
    )
    return None


def _read_card(path: pathlib.Path) -> tuple[Card, str]:
    """Returns the card and the fingerprint it states."""
    try:
        fields = json.loads(_read(path))
        expected = fields.pop("fingerprint")
        return Card.from_fields(fields), expected
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"{path}: cannot be read: {error!r}; export the bundle again.") from error


def _read_golden(path: pathlib.Path, interface: Interface) -> Golden:
    try:
        # From memory, since numpy leaves a file open that it cannot read.
        with np.load(io.BytesIO(_read(path)), allow_pickle=False) as arrays:
            golden = Golden(
                arrays["frames"],
                arrays["outputs"],
                arrays.get("labels"),
            )
    except BundleError:
        raise
    except Exception as error:
        # zip, zlib, tokenize: of bytes that somebody changed, each raises its own.
        raise BundleError(f"{path}: cannot be read: {error!r}.") from error
    steps = len(golden.frames)
    for name, array, width in (
        ("frames", golden.frames, interface.sensor_count),
        ("outputs", golden.outputs, interface.output_count),
    ):
        if array.dtype != np.float32 or array.shape != (steps, width) or not steps:
            raise BundleError(
                f"{path}: got {name} {array.dtype} {list(array.shape)}, expected float32 "
                f"[T, {width}] with T >= 1."
            )
    labels = golden.labels
    if labels is not None and (labels.dtype != np.float32 or labels.shape != (steps,)):
        raise BundleError(
            f"{path}: got labels {labels.dtype} {list(labels.shape)}, expected float32 [{steps}]."
        )
    return golden
