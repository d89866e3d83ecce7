"""What every store promises, held against each of them."""

from __future__ import annotations

import pathlib
import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tickcell.server.store import Change, LmdbStore, MemoryStore, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Store]:
    opened: Store = (
        MemoryStore() if request.param == "memory" else LmdbStore.open(tmp_path, check=len)
    )
    yield opened
    opened.close()


def test_load_answers_in_the_order_of_the_keys(store: Store) -> None:
    store.commit([Change(b"a", None, b"1"), Change(b"b", None, b"2")])
    assert store.load([b"b", b"none", b"a"]) == [b"2", None, b"1"]


def test_change_of_another_value_than_expected_is_not_applied(store: Store) -> None:
    store.commit([Change(b"a", None, b"1")])
    assert store.commit([Change(b"a", b"0", b"2")]) == [False]
    assert store.load([b"a"]) == [b"1"]


def test_creation_of_what_exists_is_not_applied(store: Store) -> None:
    store.commit([Change(b"a", None, b"1")])
    assert store.commit([Change(b"a", None, b"2")]) == [False]
    assert store.load([b"a"]) == [b"1"]


def test_loser_of_a_batch_leaves_the_others_alone(store: Store) -> None:
    store.commit([Change(b"a", None, b"1"), Change(b"b", None, b"1")])
    changes = [Change(b"a", b"1", b"2"), Change(b"b", b"0", b"2"), Change(b"c", None, b"2")]
    assert store.commit(changes) == [True, False, True]
    assert store.load([b"a", b"b", b"c"]) == [b"2", b"1", b"2"]


def test_removed_record_is_gone(store: Store) -> None:
    store.commit([Change(b"a", None, b"1")])
    assert store.commit([Change(b"a", b"1", None)]) == [True]
    assert store.load([b"a"]) == [None]


def test_record_created_anew_does_not_pass_for_the_old_one(store: Store) -> None:
    store.commit([Change(b"a", None, b"first life")])
    store.commit([Change(b"a", b"first life", None)])
    store.commit([Change(b"a", None, b"second life")])
    assert store.commit([Change(b"a", b"first life", b"late")]) == [False]


def test_later_change_of_a_batch_sees_the_earlier_one(store: Store) -> None:
    changes = [Change(b"a", None, b"1"), Change(b"a", None, b"2"), Change(b"a", b"1", b"3")]
    assert store.commit(changes) == [True, False, True]
    assert store.load([b"a"]) == [b"3"]


def test_scan_goes_on_after_the_key_given(store: Store) -> None:
    store.commit([Change(key, None, key) for key in (b"c", b"a", b"b", b"b\x00")])
    assert store.scan(b"", 2) == [(b"a", b"a"), (b"b", b"b")]
    assert store.scan(b"b", 2) == [(b"b\x00", b"b\x00"), (b"c", b"c")]
    assert store.scan(b"c", 2) == []


def test_count_is_of_records(store: Store) -> None:
    assert store.count() == 0
    store.commit([Change(b"a", None, b"1"), Change(b"b", None, b"1")])
    assert store.count() == 2


def test_empty_store_has_nothing_to_scan(store: Store) -> None:
    assert store.scan(b"", 10) == []


def test_records_outlive_the_process_that_wrote_them(tmp_path: pathlib.Path) -> None:
    first = LmdbStore.open(tmp_path, check=len)
    first.commit([Change(b"a", None, b"1")])
    first.close()
    second = LmdbStore.open(tmp_path, check=len)
    assert second.load([b"a"]) == [b"1"]
    second.close()


def test_durable_store_keeps_the_same_contract(tmp_path: pathlib.Path) -> None:
    store = LmdbStore.open(tmp_path, durability="power-loss", check=len)
    assert store.commit([Change(b"a", None, b"1"), Change(b"a", b"0", b"2")]) == [True, False]
    store.close()


KEYS = st.sampled_from([b"a", b"a\x00", b"b", b"b/c", b"k" * 511])
# The larger ones lie on pages of their own.
VALUES = st.builds(bytes.__mul__, st.sampled_from([b"x", b"y"]), st.sampled_from([1, 400, 20000]))


class StoresAgree(RuleBasedStateMachine):
    """Both stores do what a dictionary does."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._open: Callable[[], LmdbStore] = lambda: LmdbStore.open(self._folder.name, check=len)
        self.memory = MemoryStore()
        self.lmdb = self._open()
        self.model: dict[bytes, bytes] = {}

    @rule(
        drafts=st.lists(
            st.tuples(KEYS, st.booleans(), st.none() | VALUES, st.none() | VALUES), max_size=4
        )
    )
    def commit(self, drafts: list[tuple[bytes, bool, bytes | None, bytes | None]]) -> None:
        changes = [
            Change(key, self.model.get(key) if is_right else guess, replacement)
            for key, is_right, guess, replacement in drafts
        ]
        expected = []
        for key, old, new in changes:
            expected.append(self.model.get(key) == old)
            if expected[-1] and new is not None:
                self.model[key] = new
            elif expected[-1]:
                self.model.pop(key, None)
        assert self.memory.commit(changes) == self.lmdb.commit(changes) == expected

    @rule(key=KEYS, is_right=st.booleans(), guess=st.none() | VALUES, new=st.none() | VALUES)
    def exchange(self, key: bytes, is_right: bool, guess: bytes | None, new: bytes | None) -> None:
        old = self.model.get(key) if is_right else guess
        expected = self.model.get(key) == old
        if expected and new is not None:
            self.model[key] = new
        elif expected:
            self.model.pop(key, None)
        assert self.memory.exchange(key, old, new) == self.lmdb.exchange(key, old, new) == expected

    @rule(keys=st.lists(KEYS, max_size=4))
    def load(self, keys: list[bytes]) -> None:
        expected = [self.model.get(key) for key in keys]
        assert self.memory.load(keys) == self.lmdb.load(keys) == expected

    @rule(after=st.just(b"") | KEYS, limit=st.integers(1, 4))
    def scan(self, after: bytes, limit: int) -> None:
        expected = sorted(item for item in self.model.items() if item[0] > after)[:limit]
        assert self.memory.scan(after, limit) == self.lmdb.scan(after, limit) == expected

    @rule()
    def open_again(self) -> None:
        self.lmdb.close()
        self.lmdb = self._open()

    @invariant()
    def count(self) -> None:
        assert self.memory.count() == self.lmdb.count() == len(self.model)

    def teardown(self) -> None:
        self.lmdb.close()
        self._folder.cleanup()


TestStoresAgree = StoresAgree.TestCase
TestStoresAgree.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
