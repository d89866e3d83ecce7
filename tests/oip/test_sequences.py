"""What becomes of requests that start, go on with and end a sequence: the table of lives."""

from __future__ import annotations

import itertools
import threading
from concurrent import futures

import pytest

from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from doubles.interrupted_store import InterruptedStore
from doubles.manual_clock import ManualClock
from doubles.moody_cell import GIVES_NAN
from tickcell.conformance.caller import Caller
from tickcell.conformance.caller import Refused as NativeRefused
from tickcell.conformance.peer import MUST_START, Peer, PeerStream, Refused, request
from tickcell.v1 import session_service_pb2 as native_pb

Path = Peer | PeerStream


def test_sequence_is_started_advanced_and_ended(path: Path) -> None:
    assert path.infer(7, [1.0], start=True) == [1.0]
    assert path.infer(7, [2.0]) == [1002.0]
    assert path.infer(7, [3.0], end=True) == [2003.0]
    with pytest.raises(Refused, match=rf"sequence 7 to model 'counting' {MUST_START} \[SESSION_D"):
        path.infer(7, [4.0])


def test_sequence_that_was_never_started_is_refused_in_tritons_words(path: Path) -> None:
    with pytest.raises(Refused, match=rf"{MUST_START} \[SESSION_UNKNOWN: no such session"):
        path.infer(7)


def test_end_of_a_sequence_that_is_not_alive_is_refused_in_tritons_words(path: Path) -> None:
    with pytest.raises(Refused, match=MUST_START):
        path.infer(7, end=True)


def test_start_on_a_live_sequence_begins_anew(path: Path, native: Caller) -> None:
    path.infer(7, start=True)
    path.infer(7)
    assert path.infer(7, [5.0], start=True) == [5.0]
    assert path.infer(7, [6.0]) == [1006.0]
    assert (
        len(native.call(native.sessions.ListSessions, native_pb.ListSessionsRequest()).sessions)
        == 1
    )


def test_sequence_that_was_idle_for_its_time_is_refused_in_tritons_words(
    path: Path, clock: ManualClock
) -> None:
    path.infer(7, start=True)
    clock.advance(599.0)
    path.infer(7)
    clock.advance(601.0)
    with pytest.raises(Refused, match=rf"{MUST_START} \[SESSION_EXPIRED: expired after 2 steps"):
        path.infer(7)
    assert path.infer(7, [5.0], start=True) == [5.0]


def test_sequence_is_idle_for_as_long_as_the_server_was_told(clock: ManualClock) -> None:
    records = InterruptedStore(clock)
    with (
        InProcessServer([served(CountingCell())], records, oip_idle_ttl_s=1.0) as server,
        Peer(server.address) as peer,
    ):
        config = peer.ask("ModelConfig", name="counting").config
        assert config.sequence_batching.max_sequence_idle_microseconds == 1_000_000
        peer.infer(7, start=True)
        clock.advance(1.0)
        with pytest.raises(Refused, match="SESSION_EXPIRED"):
            peer.infer(7)


class TestIdentity:
    def test_seven_and_seven_in_quotes_on_two_models_are_four_sequences(self, path: Path) -> None:
        sequences = [*itertools.product((7, "7"), ("counting", "other"))]
        for step, (index, (sequence, model)) in itertools.product(range(3), enumerate(sequences)):
            (output,) = path.infer(sequence, [float(index)], model=model, start=step == 0)
            assert output == 1000 * step + index

    @pytest.mark.parametrize(
        "sequence",
        [1, 2**63 - 1, -1, -(2**63), "a", "x" * 128, "\u00e9" * 64, "\u0000\n\U0001f916"],
    )
    def test_id_is_any_whole_number_of_64_bits_or_text_of_128_bytes(
        self, path: Path, sequence: int | str
    ) -> None:
        path.infer(sequence, start=True)
        assert path.infer(sequence, [5.0]) == [1005.0]

    @pytest.mark.parametrize("sequence", [1, 2**63, 2**64 - 1])
    def test_unsigned_ids_are_taken_over_their_whole_range(self, path: Path, sequence: int) -> None:
        path.infer(sequence, uint64=True, start=True)
        assert path.infer(sequence, [5.0], uint64=True) == [1005.0]

    def test_signed_and_unsigned_are_one_id_where_their_bits_are(self, path: Path) -> None:
        path.infer(-1, start=True)
        assert path.infer(2**64 - 1, [5.0], uint64=True) == [1005.0]

    def test_text_above_128_bytes_is_refused(self, path: Path) -> None:
        with pytest.raises(Refused, match="sequence_id: got 129 bytes, expected at most 128"):
            path.infer("x" * 129, start=True)

    def test_sequence_is_a_session_that_can_be_found_reset_and_deleted_natively(
        self, peer: Peer, native: Caller
    ) -> None:
        peer.infer("robot 7", start=True)
        listed = native.call(native.sessions.ListSessions, native_pb.ListSessionsRequest())
        (session,) = listed.sessions
        assert session.id.startswith("oip-")
        assert len(session.id) == len("oip-") + 32
        assert dict(session.labels) == {
            "model": "counting",
            "sequence_id": "robot 7",
            "sequence_id_type": "string",
        }
        native.call(
            native.sessions.ResetSession,
            native_pb.ResetSessionRequest(
                session=session.id,
                generation=session.generation,
                request_id="6f1ed002-ab5c-4a4f-9d2c-1c0e6b2f7a31",
            ),
        )
        assert peer.infer("robot 7", [5.0]) == [5.0]
        native.delete(session.id, native.get(session.id).generation)
        with pytest.raises(Refused, match="SESSION_DELETED"):
            peer.infer("robot 7")

    def test_no_session_is_made_natively_under_a_sequences_id(
        self, peer: Peer, native: Caller
    ) -> None:
        peer.infer(7, start=True, end=True)
        with pytest.raises(NativeRefused, match="is reserved for a sequence"):
            native.create(session="oip-" + 32 * "0", model="counting")


class TestVersions:
    def test_start_without_a_version_takes_the_newest(self, peer: Peer) -> None:
        response = peer.call("ModelInfer", request(7, model="other", start=True))
        assert (response.model_name, response.model_version) == ("other", "2")

    def test_version_that_is_named_at_the_start_is_kept(self, peer: Peer) -> None:
        peer.infer(7, model="other", model_version="1", start=True)
        for version in ("", "1"):
            response = peer.call("ModelInfer", request(7, model="other", model_version=version))
            assert response.model_version == "1"

    def test_other_version_than_the_sequences_is_refused_and_changes_nothing(
        self, path: Path
    ) -> None:
        path.infer(7, model="other", model_version="1", start=True)
        with pytest.raises(Refused, match="model_version: got '2', expected '1'"):
            path.infer(7, model="other", model_version="2")
        assert path.infer(7, [5.0], model="other") == [1005.0]

    @pytest.mark.parametrize(
        ("model", "version"), [("nobody", ""), ("other", "3"), ("other", "01"), ("worded", "first")]
    )
    def test_version_that_is_not_served_is_refused(
        self, path: Path, model: str, version: str
    ) -> None:
        with pytest.raises(Refused, match=f"unknown model: '{model}'.* is not found"):
            path.infer(7, model=model, model_version=version, start=True)

    def test_step_of_a_model_that_is_not_served_is_refused_as_such(self, path: Path) -> None:
        with pytest.raises(Refused, match=r"Request for unknown model: 'n+' is not found") as long:
            path.infer("x" * 128, model="n" * 100_000)
        assert len(str(long.value)) < 1000


class TestOrder:
    def test_two_clients_without_our_parameters_go_in_order_of_arrival(self, peer: Peer) -> None:
        peer.infer(7, start=True)
        with futures.ThreadPoolExecutor(8) as pool:
            got = list(pool.map(lambda _: peer.infer(7, [0.0])[0], range(100)))
        assert sorted(got) == [1000.0 * step for step in range(1, 101)]

    def test_who_comes_while_a_sequence_ends_comes_after_the_end(
        self, peer: Peer, records: InterruptedStore
    ) -> None:
        """The end is a commit of its own: another request may not come between it and its step."""
        peer.infer(7, start=True)
        late: list[futures.Future[list[float]]] = []
        with futures.ThreadPoolExecutor(1) as pool:
            sent = threading.Event()

            def send_another() -> None:
                late.append(pool.submit(peer.infer, 7, [9.0]))
                # It arrives while the loop is held here, before the commit of the last step.
                sent.wait(0.2)

            records.interruptions.append(send_another)
            assert peer.infer(7, [5.0], end=True) == [1005.0]
            with pytest.raises(Refused, match="SESSION_DELETED: was deleted after 2 steps"):
                late[0].result()

    def test_another_server_of_the_store_goes_on_with_a_sequence(
        self, records: InterruptedStore, peer: Peer
    ) -> None:
        models = [served(CountingCell())]
        with InProcessServer(models, records) as second, Peer(second.address) as other:
            peer.infer(7, start=True)
            assert other.infer(7, [5.0]) == [1005.0]
            other.infer(7, [6.0], start=True)
            # The first server remembers the life before.
            assert peer.infer(7, [7.0]) == [1007.0]
            other.infer(7, end=True)
            with pytest.raises(Refused, match="SESSION_DELETED"):
                peer.infer(7)


class TestRefusedStart:
    @pytest.mark.parametrize(
        "readings", [[float("nan")], [501.0], [1.0] * 33, [[1.0, 2.0]]], ids=str
    )
    def test_start_whose_frame_is_refused_ends_no_life(
        self, path: Path, readings: list[float]
    ) -> None:
        path.infer(7, start=True)
        with pytest.raises(Refused):
            path.infer(7, readings, start=True)
        assert path.infer(7, [5.0]) == [1005.0]

    def test_start_whose_frame_the_cell_fails_on_has_begun_its_life(self, path: Path) -> None:
        with pytest.raises(Refused, match="OUTPUT_NOT_FINITE"):
            path.infer(7, [GIVES_NAN], start=True)
        assert path.infer(7, [5.0]) == [5.0]
