"""Requests in line: of each session one at a time, in order, whoever waits or has left."""

from __future__ import annotations

import asyncio

import pytest

from server.world import in_loop
from tickcell.server import errors
from tickcell.server.entries import Entries, Entry
from tickcell.server.life_requests import Get
from tickcell.server.store import Key

A, B = Key("", "a"), Key("", "b")


async def ask(entry: Entry) -> object:
    return await entry


def test_entries_of_a_session_have_their_turn_in_the_order_of_their_arrival() -> None:
    entries = Entries()
    first, second, third = (Entry(Get(A)) for _ in range(3))
    assert [entries.add(entry) for entry in (first, second, third)] == [True, False, False]
    assert entries.first(A) is first
    assert entries.remove(A) == (first, second)
    # Behind those that are there already.
    assert not entries.add(last := Entry(Get(A)))
    assert [entries.remove(A) for _ in range(3)] == [(second, third), (third, last), (last, None)]
    assert len(entries) == 0
    assert entries.add(Entry(Get(A)))


def test_sessions_do_not_wait_for_each_other() -> None:
    entries = Entries()
    assert entries.add(Entry(Get(A)))
    assert entries.add(other := Entry(Get(B)))
    assert len(entries) == 2
    assert entries.remove(B) == (other, None)


@pytest.mark.parametrize("waits", [False, True])
def test_answer_reaches_its_caller_before_or_while_it_waits(*, waits: bool) -> None:
    async def run() -> tuple[object, bool]:
        entry = Entry(Get(A))
        asking = asyncio.create_task(ask(entry))
        if waits:
            await asyncio.sleep(0)
        entry.settle(None)
        return await asking, entry.is_left

    assert in_loop(run()) == (None, False)


def test_refusal_is_raised() -> None:
    entry = Entry(Get(A))
    entry.settle(errors.SessionUnknown("a: no such session.", session="a"))
    with pytest.raises(errors.SessionUnknown):
        in_loop(ask(entry))


def test_caller_that_leaves_is_known_and_its_answer_harms_nobody() -> None:
    async def run() -> Entry:
        entry = Entry(Get(A))
        asking = asyncio.create_task(ask(entry))
        await asyncio.sleep(0)
        assert not entry.is_left
        asking.cancel()
        await asyncio.wait([asking])
        assert entry.is_left
        assert not entry.is_settled
        entry.settle(None)
        return entry

    assert in_loop(run()).is_settled
