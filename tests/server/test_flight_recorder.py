"""What a server applies is in its flight recordings, and can be computed again to the bit."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from mcap.exceptions import EndOfFile
from mcap.reader import NonSeekingReader, make_reader

from doubles.counting_cell import CountingCell
from doubles.in_process_server import InProcessServer, served
from server.flight_runs import rerun, rewritten, said
from server.http_client import fetch
from server.serve_process import ServeProcess, complaint
from server.small_disk import fill, mounted
from tickcell.cli.server_process import ServerProcess
from tickcell.client import Session
from tickcell.model import Bundle
from tickcell.server import life_requests, migration, state_requests
from tickcell.server.flight import messages
from tickcell.server.flight.files import FlightFiles
from tickcell.server.flight.reading import Said
from tickcell.server.flight.recorder import Recorder
from tickcell.server.life_requests import Get, Recall, Touch
from tickcell.server.migration import FindMigrated
from tickcell.server.state_requests import Export, FindCreated, ReadOutputs
from tickcell.v1 import flight_recording_pb2 as pb

ANY_PORT = ("--listen", "localhost:0")


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """A few hundred frames, `[T, F]`."""
    return Bundle.load().golden.frames[:300]


@pytest.fixture
def flights(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "flights"


@pytest.fixture
def server(tmp_path: pathlib.Path, flights: pathlib.Path) -> Iterator[ServerProcess]:
    """A server that records, to kill and start again."""
    with ServerProcess(tmp_path, "--record", str(flights), listen="localhost:0") as process:
        yield process


def kinds(flights: pathlib.Path, session: str) -> list[str]:
    """Returns the events of a session."""
    prefix = "FLIGHT_EVENT_KIND_"
    return [
        pb.FlightEventKind.Name(each.message.kind).removeprefix(prefix)
        for each in said(flights)
        if each.is_event and each.key.session == session
    ]


def test_all_that_is_applied_is_recorded_and_agrees(
    server: ServerProcess, flights: pathlib.Path, frames: np.ndarray
) -> None:
    address = server.address
    with Session.create(address, "car", window=40) as car:
        for frame in frames[:20]:
            car.step(frame)
        [*car.steps(frames[20:100])]
        car.preview(frames[None, :7])
        car.fork("shadow")
        with Session.attach(address, "shadow") as shadow:
            [*shadow.steps(frames[100:130])]
            with Session.create(address, "copy", export=shadow.export(end=True)) as copy:
                [*copy.steps(frames[130:150])]
        car.reset()
        [*car.steps(frames[:30])]
        car.touch()
        with Session.open(address, "car") as heir:
            [*heir.steps(frames[30:50])]
    with Session.create(address, "pair", series_count=2) as pair:
        resets = np.zeros((60, 2), bool)
        resets[[0, 7, 40], [0, 1, 1]] = True
        [*pair.steps(np.stack([frames[:60], frames[60:120]], axis=1), resets=resets)]
    server.stop()
    found = rerun(flights)
    found.check()
    assert (found.missing_count, found.problems) == (0, {})
    assert found.step_count == 100 + 30 + 20 + 50 + 60
    assert kinds(flights, "car") == ["CREATED", "RESET", "CLAIMED", "DELETED"]
    assert kinds(flights, "shadow") == ["FORKED", "MOVED"]
    assert kinds(flights, "copy") == ["IMPORTED", "DELETED"]
    # A session of its own, and the other does not end by it.
    assert [each.step_count for line in found.lines for each in line.segments] == [
        *(100, 30, 20),
        *(20, 60, 30),
    ]


def test_killed_server_goes_on_with_the_state_and_what_is_missing_is_named(
    server: ServerProcess, flights: pathlib.Path, frames: np.ndarray
) -> None:
    rounds = 5
    with Session.create(server.address, "car") as car:
        for _ in range(rounds):
            for frame in frames:
                car.step(frame)
            server.kill()
            server.restart()
        car.step(frames[0])
        server.stop()
        car.detach()
    found = rerun(flights)
    found.check()
    (line,) = found.lines
    before = sum(each.next_step for each in line.unknown)
    assert before + found.step_count + found.missing_count == rounds * len(frames) + 1
    assert len(found.problems) == rounds
    # What was not written yet is what a kill may cost, and the files have the others.
    assert 1 <= len(line.gaps) <= rounds
    assert found.step_count > 0
    assert found.dropped_count == 0


def test_restarted_server_begins_with_the_state_that_the_files_end_with(
    server: ServerProcess, flights: pathlib.Path, frames: np.ndarray, tmp_path: pathlib.Path
) -> None:
    with Session.create(server.address, "car") as car:
        [*car.steps(frames[:100])]
        server.stop()
        server.restart()
        [*car.steps(frames[100:])]
        server.stop()
        car.detach()
    found = rerun(flights)
    found.check()
    assert (found.step_count, found.missing_count) == (300, 0)
    assert kinds(flights, "car") == ["CREATED", "FOUND"]

    def change(each: Said) -> None:
        if each.is_event and each.message.kind == pb.FLIGHT_EVENT_KIND_FOUND:
            each.message.state_values = (
                bytes([each.message.state_values[0] ^ 1]) + each.message.state_values[1:]
            )

    (first, second) = sorted(flights.iterdir())
    changed = rewritten(second, tmp_path / "changed", change)
    problems = [each.problem for each in rerun(first, changed).segments]
    assert problems[0] == ""
    # Its outputs follow from another state, or are the same by chance; its state is another.
    assert problems[1] != ""


def test_one_changed_bit_of_an_output_is_found_at_its_step(
    server: ServerProcess, flights: pathlib.Path, frames: np.ndarray, tmp_path: pathlib.Path
) -> None:
    with Session.create(server.address, "car") as car:
        for frame in frames[:50]:
            car.step(frame)
    server.stop()

    def change(each: Said) -> None:
        if not each.is_event and each.message.first_step == 33:
            outputs = each.message.outputs
            each.message.outputs = bytes([outputs[0] ^ 1]) + outputs[1:]

    (segment,) = rerun(rewritten(flights, tmp_path / "changed", change)).segments
    assert segment.problem.startswith("from step 33: output 1 of series 1 was ")
    assert segment.problem.endswith("(1 of these 50 steps differ)")


def test_one_changed_bit_of_a_frame_is_found(
    server: ServerProcess, flights: pathlib.Path, frames: np.ndarray, tmp_path: pathlib.Path
) -> None:
    with Session.create(server.address, "car") as car:
        for frame in frames[:50]:
            car.step(frame)
    server.stop()

    def change(each: Said) -> None:
        if not each.is_event and each.message.first_step == 49:
            readings = each.message.frames
            each.message.frames = bytes([readings[0] ^ 1]) + readings[1:]

    (segment,) = rerun(rewritten(flights, tmp_path / "changed", change)).segments
    assert segment.problem


def test_two_servers_of_a_store_leave_no_gap_between_their_files(
    tmp_path: pathlib.Path, frames: np.ndarray
) -> None:
    places = [tmp_path / "one", tmp_path / "two"]
    store = ("--store", str(tmp_path / "store"))
    with (
        ServeProcess(*ANY_PORT, *store, "--record", str(places[0])) as one,
        ServeProcess(*ANY_PORT, *store, "--record", str(places[1])) as two,
    ):
        Session.create(one.address, "car").detach()
        for start in range(0, 300, 50):
            address = (one, two)[start // 50 % 2].address
            with Session.attach(address, "car") as car:
                [*car.steps(frames[start : start + 50])]
                car.detach()
        one.end()
        two.end()
    found = rerun(*places)
    found.check()
    assert (found.step_count, found.missing_count) == (300, 0)
    assert len(found.segments) == 6
    # By one of them alone it is known what the other has.
    assert rerun(places[0]).missing_count == 100


def test_full_disk_costs_steps_that_are_counted_and_no_tick(
    tmp_path: pathlib.Path, frames: np.ndarray
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, 2**21):
        arguments = ("--store", str(tmp_path / "store"), "--metrics", "localhost:0")
        with (
            ServeProcess(*ANY_PORT, *arguments, "--record", str(disk / "flights")) as server,
            Session.create(server.address, "car") as car,
        ):
            # What is in a file by then stays there; else nothing would be missing between.
            _step_until(car, frames, server, lambda counts: counts["steps"] > 0)
            fill(disk / "filler")
            _step_until(car, frames, server, lambda counts: counts["failures"] >= 2)
            (disk / "filler").unlink()
            written = _flight_counts(server)["steps"]
            _step_until(car, frames, server, lambda counts: counts["steps"] > written)
            car.step(frames[0])
            counts = _flight_counts(server)
            total = car.next_step
            car.detach()
            assert "the flight recorder cannot write, and drops steps" in server.end()[1]
        found = rerun(disk / "flights")
    found.check()
    assert found.missing_count == found.dropped_count == counts["dropped_steps"] > 0
    assert found.step_count + found.missing_count == total


def _step_until(car: Session, frames: np.ndarray, server: ServeProcess, is_enough: Any) -> None:
    """Steps until the recorder's counts are as wanted."""
    while not is_enough(_flight_counts(server)):
        for frame in frames[:20]:
            car.step(frame)


def _flight_counts(server: ServeProcess) -> dict[str, int]:
    """Returns the recorder's counts, by the middle of their names."""
    text = fetch(server.watched, "/metrics").body
    prefix = "tickcell_flight_"
    return {
        line.split("_total ")[0].removeprefix(prefix): round(float(line.split()[1]))
        for line in text.splitlines()
        if line.startswith(prefix) and "_total " in line
    }


def test_recorder_that_is_behind_drops_whole_steps_and_counts_them(flights: pathlib.Path) -> None:
    cell = CountingCell()
    recorder = Recorder(FlightFiles(flights, 10**9, {}), queue_bytes=2_000)
    with InProcessServer([served(cell)]) as server:
        server.observer.flight = recorder
        with Session.create(server.address, "car") as car:
            for _ in range(20):
                [*car.steps(np.zeros((256, 1), np.float32))]
            total = car.next_step
            car.detach()
    recorder.close()
    found = rerun(flights, cell=cell)
    found.check()
    tape = recorder.tape
    assert recorder.late_steps > 0
    assert tape.written_steps == found.step_count == total - recorder.late_steps
    # Those after the last that was written are counted alone.
    assert found.missing_count == found.dropped_count <= recorder.late_steps


def test_files_stay_within_the_limit_and_each_can_be_run_by_itself(
    tmp_path: pathlib.Path, flights: pathlib.Path, frames: np.ndarray
) -> None:
    limit = ("--record", str(flights), "--record-limit-gb", "0.001")
    with ServerProcess(tmp_path, *limit, listen="localhost:0") as server:
        drawn = np.random.default_rng(1)
        with Session.create(server.address, "car", window=1024) as car:
            while car.next_step < 60_000:
                # Noise, which nothing compresses.
                noise = frames[drawn.integers(0, 300, 2048)] * drawn.random((2048, 1))
                [*car.steps(noise.astype(np.float32))]
            total = car.next_step
            car.detach()
        server.stop()
    files = sorted(flights.iterdir())
    assert len(files) > 2
    assert sum(path.stat().st_size for path in files) <= 1_000_000 + 300_000
    for path in files:
        rerun(path).check()
    found = rerun(flights)
    assert found.missing_count == 0
    assert found.segments[-1].end.step == total > found.step_count


def test_mcap_reads_a_recording_and_its_messages_without_tickcell(
    server: ServerProcess, flights: pathlib.Path, frames: np.ndarray
) -> None:
    with Session.create(server.address, "car") as car:
        outputs = np.stack([car.step(frame) for frame in frames[:50]])
    server.stop()
    (path,) = flights.iterdir()
    with path.open("rb") as stream:
        schemas, channels, messages = zip(*make_reader(stream).iter_messages(), strict=True)
    assert {each.topic: each.metadata for each in channels} == {
        f"/car/{kind}": {"owner": "", "session": "car"} for kind in ("steps", "events")
    }
    classes = {each.name: _class(each) for each in schemas}
    steps = [
        classes[schema.name].FromString(message.data)
        for schema, message in zip(schemas, messages, strict=True)
        if schema.name == "tickcell.v1.FlightSteps"
    ]
    assert [each.first_step for each in steps] == [*range(50)]
    assert np.array([each.frames for each in steps], np.float32).tobytes() == frames[:50].tobytes()
    assert np.array([each.outputs for each in steps], np.float32).tobytes() == outputs.tobytes()


def _class(schema: Any) -> Any:
    """Makes the class of a schema from what the file says of it, and from nothing else."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(schema.data).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(schema.name))


def test_file_cut_anywhere_keeps_what_comes_before(
    server: ServerProcess, flights: pathlib.Path, frames: np.ndarray, tmp_path: pathlib.Path
) -> None:
    with Session.create(server.address, "car") as car:
        while len(said(flights)) < 100:
            for frame in frames:
                car.step(frame)
        server.kill()
        server.restart()
        car.detach()
    server.stop()
    path = min(flights.iterdir())
    whole = path.read_bytes()
    cut = tmp_path / "tickcell-cut.mcap"
    counts = []
    for size in range(0, len(whole), max(1, len(whole) // 40)):
        cut.write_bytes(whole[:size])
        if size < 8:
            continue
        found = rerun(cut)
        found.check()
        counts.append(found.step_count)
    assert counts == sorted(counts)
    # The library too reads what an unfinished file has.
    with path.open("rb") as stream:
        read = _until_its_end(NonSeekingReader(stream).iter_messages(log_time_order=False))
    assert len(read) == len(said(path)) > 0


def _until_its_end(messages: Iterator[Any]) -> list[Any]:
    read = []
    try:
        for each in messages:
            read.append(each)
    except EndOfFile:
        return read
    raise AssertionError("the file was finished")


def test_place_that_cannot_be_written_is_refused_at_the_start(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "below"
    said = complaint(*ANY_PORT, "--store", str(tmp_path / "store"), "--record", str(place))
    assert f"--record: {place} cannot be written: Not a directory." in said


def test_every_request_that_changes_a_life_is_an_event_or_is_known_to_be_none() -> None:
    none = {Get, Touch, Recall, ReadOutputs, FindCreated, FindMigrated, Export}
    modules = (life_requests, migration, state_requests)
    found = {
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, type) and "change" in vars(each) and each.__module__ == module.__name__
    }
    assert {each for each in found if messages.kind(_any(each)) is None} == none


def _any(kind: type) -> Any:
    """Returns a request of a kind that says nothing yet."""
    return kind.__new__(kind, *[None] * len(getattr(kind, "_fields", ())))
