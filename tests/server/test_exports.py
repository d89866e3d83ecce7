"""Exports: their signatures, their bytes by version, and the bits with which they go on."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

import numpy as np
import pytest

from doubles.in_process_server import InProcessServer
from tickcell.cli.comparison import loop
from tickcell.client import errors, export_file
from tickcell.conformance.caller import Caller, UnaryPath, refused_for
from tickcell.model import Bundle
from tickcell.server.catalogue import ServedModel
from tickcell.server.files import FileError
from tickcell.server.seal import Seal
from tickcell.server.store import MemoryStore, SqliteStore
from tickcell.v1 import session_service_pb2 as pb

GOLDEN = pathlib.Path(__file__).parent / "golden_exports"
STEPS, CHUNK = 10_000, 50


@contextlib.contextmanager
def server(key: pathlib.Path | None = None, records: object = None) -> Iterator[Caller]:
    model = ServedModel.load(Bundle.load())
    with (
        InProcessServer([model], records, export_key=key) as running,  # type: ignore[arg-type]
        Caller(running.address) as caller,
    ):
        yield caller


class TestSignature:
    @pytest.fixture
    def key(self, tmp_path: pathlib.Path) -> pathlib.Path:
        path = tmp_path / "key"
        path.write_text("0123456789abcdef\n")
        return path

    def test_what_it_has_signed_is_taken_from_another_server(self, key: pathlib.Path) -> None:
        with server(key) as here, server(key) as there:
            session = here.create()
            exported = here.export(session.id, session.generation)
            assert len(exported.signature) == 32
            assert there.create(export=exported).next_step == 0

    def test_what_was_changed_is_refused(self, key: pathlib.Path) -> None:
        with server(key) as caller:
            session = caller.create()
            exported = caller.export(session.id, session.generation)
            content = pb.SessionContent.FromString(exported.content)
            content.step = 7
            exported.content = content.SerializeToString(deterministic=True)
            with refused_for("EXPORT_REFUSED") as metadata:
                caller.create(export=exported)
            assert "was changed since" in metadata["problem"]

    def test_what_another_key_or_none_has_signed_is_refused(
        self, key: pathlib.Path, tmp_path: pathlib.Path
    ) -> None:
        another = tmp_path / "another"
        another.write_text("fedcba9876543210")
        for other in (another, None):
            with server(other) as there, server(key) as here:
                session = there.create()
                exported = there.export(session.id, session.generation)
                with refused_for("EXPORT_REFUSED"):
                    here.create(export=exported)

    def test_signature_is_not_looked_at_without_a_key(self, key: pathlib.Path) -> None:
        with server(key) as signing, server() as other:
            session = signing.create()
            exported = signing.export(session.id, session.generation)
            assert other.create(export=exported).next_step == 0

    def test_key_that_can_be_guessed_is_refused(self) -> None:
        with pytest.raises(FileError, match="got a key of 15 bytes, expected at least 16"):
            Seal.parse(b"0123456789abcde\n")


class TestGoldenExports:
    """Files of every version are read, and what is written is what the last one wrote."""

    CONTENT = pb.SessionContent(
        session="robot-7",
        generation=4503599627370497,
        model="drive",
        model_version="2",
        model_fingerprint="0123456789abcdef" * 4,
        numerics_digest="00112233445566ff",
        series_count=2,
        window_step_count=3,
        step=5,
        history=b"history2",
        state_tensors=[
            pb.StateTensor(name="h", dimensions=[2, 1, 2], values=[0.5, -1.0, 2.0, 0.25]),
            pb.StateTensor(name="c", dimensions=[2, 1], values=[3.0, -4.0]),
        ],
        origin=pb.SessionOrigin(
            step=3,
            history=b"history0",
            numerics_digest="ff66554433221100",
            state_tensors=[
                pb.StateTensor(name="h", dimensions=[2, 1, 2], values=[0.0] * 4),
                pb.StateTensor(name="c", dimensions=[2, 1], values=[1.0, 1.0]),
            ],
        ),
        window=pb.SessionWindow(
            history_chain=b"history0history1history2", outputs=[1.0, 2.0, 3.0, 4.0]
        ),
        labels={"driver": "Zoë"},
    )
    EXPORT = pb.SessionExport(
        format_version=1,
        content=CONTENT.SerializeToString(deterministic=True),
        signature=bytes(range(32)),
    )

    def test_it_is_read(self) -> None:
        read = export_file.decode((GOLDEN / "version_1").read_bytes())
        assert read == self.EXPORT
        assert pb.SessionContent.FromString(read.content) == self.CONTENT

    def test_it_is_what_is_written(self) -> None:
        assert export_file.encode(self.EXPORT) == (GOLDEN / "version_1").read_bytes()


class TestFile:
    FILE = export_file.encode(pb.SessionExport(format_version=1, content=b"a session"))

    def test_every_flipped_bit_and_every_cut_is_found(self) -> None:
        for place in range(len(self.FILE)):
            for bit in range(8):
                wrong = bytearray(self.FILE)
                wrong[place] ^= 1 << bit
                with pytest.raises(errors.ExportFileError):
                    export_file.decode(bytes(wrong))
            with pytest.raises(errors.ExportFileError):
                export_file.decode(self.FILE[:place])
        with pytest.raises(errors.ExportFileError, match="expected"):
            export_file.decode(self.FILE + b"x")

    def test_newer_layout_is_its_own_error(self) -> None:
        newer = self.FILE[:16] + b"\x02" + self.FILE[17:]
        with pytest.raises(errors.ExportFileNewerError, match="version 2"):
            export_file.decode(newer)


class TestBits:
    """Whatever way a state takes, its session goes on as the plain loop does."""

    @pytest.fixture
    def frames(self) -> np.ndarray:
        frames = Bundle.load().golden.frames
        return np.resize(frames, (STEPS, frames.shape[1]))

    @pytest.fixture
    def outputs(self, frames: np.ndarray) -> np.ndarray:
        return loop(Bundle.load().cell(), frames)

    def advance(
        self, caller: Caller, session: pb.Session, frames: np.ndarray, outputs: np.ndarray, end: int
    ) -> pb.Session:
        """Steps a session up to a step, and holds each output to the loop's."""
        with UnaryPath(caller) as path:
            for step in range(session.next_step, end, CHUNK):
                given = frames[step : step + CHUNK]
                request = pb.StepSessionRequest(
                    session=session.id,
                    generation=session.generation,
                    first_step=step,
                    step_count=len(given),
                    frames=given.ravel(),
                )
                got = np.array(path.send(request.SerializeToString()).outputs, np.float32)
                assert got.tobytes() == outputs[step : step + CHUNK].tobytes()
        return caller.get(session.id)

    def test_forks_and_moves_go_on_as_the_loop_and_previews_are_what_follows(
        self, frames: np.ndarray, outputs: np.ndarray, tmp_path: pathlib.Path
    ) -> None:
        with (
            contextlib.closing(SqliteStore.open(tmp_path / "store")) as on_disk,
            contextlib.closing(MemoryStore()) as in_memory,
            server(records=on_disk) as here,
            server(records=in_memory) as there,
        ):
            session = here.create(window_step_count=CHUNK)
            for number, end in enumerate(range(STEPS // 20, STEPS + 1, STEPS // 20)):
                self.preview(here, session, frames, outputs)
                session = self.advance(here, session, frames, outputs, end)
                match number % 3:
                    case 0:
                        session = here.fork(session.id, session.generation)
                    case 1:
                        exported = here.export(
                            session.id,
                            session.generation,
                            window=True,
                            end=True,
                            request_id="6f1ed002-ab5c-4a4f-9d2c-1c0e6b2f7a31",
                        )
                        file = export_file.encode(exported)
                        session = there.create(export=export_file.decode(file))
                        here, there = there, here
                    case 2:
                        session = here.claim(session.id, session.generation)
            assert session.next_step == STEPS

    def preview(
        self, caller: Caller, session: pb.Session, frames: np.ndarray, outputs: np.ndarray
    ) -> None:
        step = session.next_step
        following = frames[step : step + CHUNK]
        answer = caller.preview(
            session.id,
            session.generation,
            step=step,
            branch_count=2,
            step_count=CHUNK,
            frames=np.concatenate((following, following[::-1])).ravel(),
        )
        got = np.array(answer.outputs, np.float32)[: outputs[:CHUNK].size]
        assert got.tobytes() == outputs[step : step + CHUNK].tobytes()
        assert caller.get(session.id) == session
