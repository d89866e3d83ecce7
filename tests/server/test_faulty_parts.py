"""The faulty parts do what they say: counted outputs show each of their faults."""

from __future__ import annotations

import pytest

from doubles.faulty_parts import CELL_FAULTS, CellFault, FaultyCell
from doubles.moody_cell import MoodyCell
from server.world import World, assert_counted


@pytest.mark.parametrize("fault", [None, *CELL_FAULTS])
def test_numbers_of_a_counting_cell_show_a_step_that_was(fault: CellFault | None) -> None:
    cell = MoodyCell() if fault is None else FaultyCell(MoodyCell(), fault)
    world = World(cell=cell)
    world.create_all("a", "b")
    differs = False
    for step in range(10):
        requests = [world.request("a", step, [1.0]), world.request("b", step, [2.0])]
        world.run(*requests)
        for request, reading in zip(requests, (1.0, 2.0), strict=True):
            try:
                assert_counted(request, step, [reading])
            except AssertionError:
                differs = True
    assert differs == (fault is not None)
