"""Chunks, on every path: what a tick at a time gives, and refused where that would be."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
from collections.abc import Callable

import numpy as np
import pytest

from doubles.counting_cell import CountingCell
from doubles.in_process_server import served
from doubles.moody_cell import LEAVES_NAN, MoodyCell
from server.world import Asked, World, assert_counted, in_loop
from tickcell.cli import comparison
from tickcell.model import Bundle
from tickcell.server import errors
from tickcell.server.config import Limits
from tickcell.server.pace import SLICE_S, Pace

QUICK = Pace(3e-6, 2e-7, is_slow=False)
BIG = Pace(2e-4, 1e-4, is_slow=False)
SLOW = Pace(2e-3, 1e-3, is_slow=True)
ROOMY = Limits(max_record_bytes=2**22)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module")
def expected(bundle: Bundle) -> Callable[[int, int], bytes]:
    """What the plain loop gives from a frame on, for so many steps."""
    cell = bundle.cell()

    @functools.cache
    def loop(start: int) -> np.ndarray:
        return comparison.loop(cell, bundle.golden.frames[start : start + 96])

    return lambda start, count: loop(start)[:count].tobytes()


class RecoveringCell(CountingCell):
    """Leaves a state that is not finite after one reading, and a finite one after the next."""

    def step_rows(self, rows: bytes | memoryview) -> bytes:
        table = np.frombuffer(rows, "<f4").reshape(-1, 2).copy()
        is_broken = table[:, 0] == LEAVES_NAN
        table[~np.isfinite(table[:, 1]), 1] = 0
        stepped = np.frombuffer(super().step_rows(table.tobytes()), "<f4").reshape(-1, 2).copy()
        stepped[is_broken, 1] = np.nan
        return stepped.tobytes()


class TestNotFinite:
    """A state amid a chunk that is not finite, though all outputs and the last state are."""

    UPSET = (1.0, LEAVES_NAN, 3.0, 4.0)

    @pytest.fixture(params=[QUICK, BIG, SLOW], ids=["quick", "big", "slow"])
    def world(self, request: pytest.FixtureRequest) -> World:
        return World(cell=RecoveringCell(), pace=request.param)

    def test_tick_after_tick_the_one_that_leaves_it_is_refused(self, world: World) -> None:
        world.create("a")
        ticks = [world.request("a", step, [reading]) for step, reading in enumerate(self.UPSET)]
        world.run(*ticks[:2])
        assert_counted(ticks[0], 0, [1.0])
        assert isinstance(ticks[1].error, errors.OutputNotFinite)
        assert world.next_step("a") == 1

    def test_a_chunk_is_refused_whole(self, world: World) -> None:
        world.create("a")
        chunk = world.request("a", 0, self.UPSET)
        world.run(chunk)
        assert isinstance(chunk.error, errors.OutputNotFinite)
        assert world.next_step("a") == 0

    def test_a_chunk_among_others_is_refused_alone(self, world: World) -> None:
        world.create_all("a", "b", "c")
        good = [world.request(each, 0, [1.0, 2.0, 3.0]) for each in "ac"]
        chunk = world.request("b", 0, self.UPSET)
        world.run(good[0], chunk, good[1])
        assert isinstance(chunk.error, errors.OutputNotFinite)
        assert world.next_step("b") == 0
        for each in good:
            assert_counted(each, 0, [1.0, 2.0, 3.0])

    def test_a_chunk_of_several_series_is_refused_whole(self, world: World) -> None:
        world.create("a", 3)
        frames = np.ones((4, 3, 1), np.float32)
        frames[1, 2] = LEAVES_NAN
        chunk = world.request("a", 0, frames)
        world.run(chunk)
        assert isinstance(chunk.error, errors.OutputNotFinite)
        assert world.next_step("a") == 0

    def test_a_chunk_of_which_part_is_stored_is_refused(self, world: World) -> None:
        world.create("a")
        stored = world.request("a", 0, [0.0, 1.0])
        chunk = world.request("a", 0, [0.0, *self.UPSET])
        world.run(stored)
        world.run(chunk)
        assert isinstance(chunk.error, errors.OutputNotFinite)
        assert world.next_step("a") == 2


class TestBits:
    """The shipped cell, at every size of a round and every length of a chunk."""

    @pytest.fixture(params=[None, BIG, SLOW], ids=["measured", "big", "slow"])
    def world(self, request: pytest.FixtureRequest, bundle: Bundle) -> World:
        return World(cell=bundle.cell(), pace=request.param, limits=ROOMY)

    def asked(self, world: World, bundle: Bundle, start: int, length: int) -> Asked:
        session = f"{start}"
        step = world.next_step(session)
        return world.request(
            session, step, bundle.golden.frames[start + step : start + step + length]
        )

    def test_chunks_of_every_length_and_part_of_them_again(
        self, world: World, bundle: Bundle, expected: Callable[[int, int], bytes]
    ) -> None:
        for length in range(1, 34):
            world.create(f"{length}", window=64)
            parts = b""
            for _ in range(2):
                chunk = self.asked(world, bundle, length, length)
                world.run(chunk)
                assert chunk.error is None
                parts += bytes(chunk.answer.outputs)  # type: ignore[union-attr]
            assert parts == expected(length, 2 * length)
            # From amid what is stored, on to what is new.
            first = length // 2
            frames = bundle.golden.frames[length + first : length + first + 64]
            again = world.request(f"{length}", first, frames)
            world.run(again)
            assert again.error is None
            assert parts[: 4 * first] + bytes(again.answer.outputs) == expected(  # type: ignore[union-attr]
                length, first + 64
            )

    @pytest.mark.parametrize(
        "counts",
        [
            pytest.param((2, 3, 7, 33, 100, 256), id="some"),
            pytest.param(tuple(range(1, 257)), id="all", marks=pytest.mark.slow),
        ],
    )
    def test_rounds_of_every_size(
        self,
        world: World,
        bundle: Bundle,
        expected: Callable[[int, int], bytes],
        counts: tuple[int, ...],
    ) -> None:
        for start in range(max(counts)):
            world.create(f"{start}", window=32)
        done = dict.fromkeys(range(max(counts)), 0)
        lengths = itertools.cycle([1, 1, 2, 9])
        for count in counts:
            asked = {}
            for start in range(count):
                length = next(lengths)
                if done[start] + length <= 96:
                    asked[start] = self.asked(world, bundle, start, length)
                    done[start] += length
            world.run(*asked.values())
            for start, each in asked.items():
                assert each.error is None
                outputs = bytes(each.answer.outputs)  # type: ignore[union-attr]
                assert expected(start, done[start]).endswith(outputs)


class TestTogether:
    def test_chunks_of_a_big_cell_share_its_calls(self) -> None:
        cell = MoodyCell()
        world = World(cell=cell, pace=BIG)
        world.create_all(*"abcdefgh")
        chunks = [world.request(each, 0, [1.0, 2.0, 3.0, 4.0]) for each in "abcdefgh"]
        cell.row_counts.clear()
        world.run(*chunks)
        for chunk in chunks:
            assert_counted(chunk, 0, [1.0, 2.0, 3.0, 4.0])
        # The first was alone; of the others two are done within a slice, and the rest together
        # in several.
        assert sorted(cell.row_counts) == [1] * 4 + [2] * 4 + [5] * 4

    def test_ticks_share_a_call_as_long_as_a_slice(self) -> None:
        cell = MoodyCell()
        world = World(cell=cell, pace=BIG)
        names = [f"{index}" for index in range(40)]
        world.create_all(*names)
        ticks = [world.request(each, 0, [1.0]) for each in names]
        cell.row_counts.clear()
        world.run(*ticks)
        for tick in ticks:
            assert_counted(tick, 0, [1.0])
        most = int((SLICE_S - BIG.call_s) / BIG.row_s)
        assert max(cell.row_counts) in (most, most - 1)
        assert sum(cell.row_counts) == 40

    def test_all_rows_of_a_slow_cell_are_one_call(self) -> None:
        cell = MoodyCell()
        world = World(cell=cell, pace=SLOW)
        names = [f"{index}" for index in range(40)]
        world.create_all(*names)
        ticks = [world.request(each, 0, [1.0]) for each in names]
        cell.row_counts.clear()
        world.run(*ticks)
        for tick in ticks:
            assert_counted(tick, 0, [1.0])
        # The first was alone, and the others came while it was computed.
        assert cell.row_counts == [1, 39]


class TestPieces:
    @pytest.mark.parametrize(
        ("call_s", "expected"),
        [(SLICE_S / 79, 16), (SLICE_S / 65, 16), (SLICE_S / 61, 8), (SLICE_S, 8)],
    )
    def test_a_long_chunk_is_cut_between_whole_calls(self, call_s: float, expected: int) -> None:
        class EightAtOnce(CountingCell):
            stretch_step_count = 8

        pace = Pace(call_s, 0.0, is_slow=False)
        model = dataclasses.replace(served(EightAtOnce()), pace=pace)
        assert model.stretch_steps == expected

    @pytest.mark.parametrize(
        ("call_s", "steps", "series", "expected"),
        [
            # Steps come first, and all of the series where there is time for them.
            (SLICE_S / 33, 5, 600, (5, 256)),
            (SLICE_S / 33, 9, 600, (8, 256)),
            (SLICE_S / 33, 2, 600, (2, 1024)),
            (SLICE_S, 5, 600, (1, 256)),
            (SLICE_S, 5, 3, (1, 256)),
            (0.0, 5, 600, (5, 600)),
        ],
    )
    def test_a_chunk_of_several_series_is_cut_by_steps_and_by_series(
        self, call_s: float, steps: int, series: int, expected: tuple[int, int]
    ) -> None:
        pace = Pace(call_s, 0.0, is_slow=False)
        assert pace.lockstep_piece(steps, series) == expected

    @pytest.mark.parametrize("call_s", [SLICE_S / 9, SLICE_S, 0.0])
    @pytest.mark.parametrize("series", [2, 256, 600])
    def test_a_chunk_in_pieces_has_the_steps_of_one(self, call_s: float, series: int) -> None:
        world = World(pace=Pace(call_s, 0.0, is_slow=False), limits=ROOMY)
        world.create("a", series)
        readings = np.arange(7 * series, dtype=np.float32) / np.float32(64)
        frames = readings.reshape(7, series, 1)
        first, more = world.request("a", 0, frames[:2]), world.request("a", 1, frames[1:])
        world.run(first)
        # Of which a step is stored.
        world.run(more)
        assert_counted(first, 0, frames[:2])
        assert_counted(more, 1, frames[1:])


class TestPreparing:
    def test_a_cell_is_prepared_beside_the_loop_once_a_chunk_wants_it(self) -> None:
        bundle = Bundle.load()
        cell = bundle.cell()
        model = served(cell, "other")
        world = World(model)
        world.create("a", model=model)
        tick = world.request("a", 0, bundle.golden.frames[:1])
        world.run(tick)
        assert not cell.is_prepared
        chunk = world.request("a", 1, bundle.golden.frames[1:9])
        world.run(chunk)

        async def until_prepared() -> None:
            while not cell.is_prepared:
                await asyncio.sleep(0.001)

        in_loop(until_prepared())
        more = world.request("a", 9, bundle.golden.frames[9:17])
        world.run(more)
        outputs = [bytes(each.answer.outputs) for each in (tick, chunk, more)]  # type: ignore[union-attr]
        loop = comparison.loop(bundle.cell(), bundle.golden.frames[:17])
        assert b"".join(outputs) == loop.tobytes()

    def test_a_cell_that_cannot_be_prepared_is_stepped_all_the_same(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Unprepared(CountingCell):
            is_prepared = False

            def prepare(self) -> None:
                raise ArithmeticError("cannot be readied")

        world = World(cell=Unprepared())
        world.create("a")
        for step in (0, 4):
            chunk = world.request("a", step, [1.0, 2.0, 3.0, 4.0])
            world.run(chunk)
            assert_counted(chunk, step, [1.0, 2.0, 3.0, 4.0])

        async def until_said() -> None:
            while not caplog.messages:
                await asyncio.sleep(0.001)

        in_loop(until_said())
        assert caplog.messages == ["a cell was not readied for stretches"]
