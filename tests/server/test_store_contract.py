"""What every store promises, tried with each of them."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from databases import Databases
from doubles.blocking_store import BlockingStore
from tickcell.server.store import (
    Applied,
    Change,
    Counts,
    EmbeddedStore,
    Key,
    Lost,
    MemoryStore,
    Pin,
    Served,
    SqliteStore,
    Verdict,
)
from tickcell.server.store.postgres.postgres_store import PostgresStore

A, B, C = (Key("", name) for name in "abc")
ONE, TWO = (Pin("drive", version, 64 * version) for version in "12")
SECOND_NS = 1_000_000_000


class Time:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.ns = 5_000 * SECOND_NS

    def __call__(self) -> int:
        return self.ns

    def pass_s(self, seconds: float) -> None:
        self.ns += round(seconds * SECOND_NS)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=["memory", "process-crash", "power-loss", "postgresql"])
def store(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, databases: Databases, time: Time
) -> Iterator[EmbeddedStore]:
    opened: EmbeddedStore
    if request.param == "memory":
        opened = MemoryStore(time)
    elif request.param == "postgresql":
        opened = databases.store(time)
    else:
        opened = SqliteStore.open(tmp_path / "store", durability=request.param, monotonic_ns=time)
    yield opened
    opened.close()


def test_load_answers_in_the_order_of_the_keys(store: EmbeddedStore) -> None:
    store.commit([Change(A, None, b"1"), Change(B, None, b"2")])
    assert store.load([B, C, A]) == [b"2", None, b"1"]
    assert store.load([A]) == [b"1"]
    assert store.load([]) == []


def test_change_of_another_value_than_expected_is_lost_to_what_is_there(
    store: EmbeddedStore,
) -> None:
    store.commit([Change(A, None, b"1")])
    assert store.commit([Change(A, b"0", b"2")]) == [Lost(b"1")]
    assert store.load([A]) == [b"1"]


def test_creation_of_what_exists_is_lost(store: EmbeddedStore) -> None:
    store.commit([Change(A, None, b"1")])
    assert store.commit([Change(A, None, b"2")]) == [Lost(b"1")]
    assert store.load([A]) == [b"1"]


def test_change_of_what_is_gone_is_lost_to_nothing(store: EmbeddedStore) -> None:
    assert store.commit([Change(A, b"1", b"2")]) == [Lost(None)]


def test_removal_of_another_value_than_expected_is_lost(store: EmbeddedStore) -> None:
    store.commit([Change(A, None, b"1")])
    assert store.commit([Change(A, b"0", None)]) == [Lost(b"1")]
    assert store.commit([Change(A, None, None)]) == [Lost(b"1")]
    assert store.load([A]) == [b"1"]


def test_loser_of_a_batch_leaves_the_others_alone(store: EmbeddedStore) -> None:
    store.commit([Change(A, None, b"1"), Change(B, None, b"1")])
    changes = [Change(A, b"1", b"2"), Change(B, b"0", b"2"), Change(C, None, b"2")]
    assert store.commit(changes) == [Applied(), Lost(b"1"), Applied()]
    assert store.load([A, B, C]) == [b"2", b"1", b"2"]


def test_removed_record_is_gone(store: EmbeddedStore) -> None:
    store.commit([Change(A, None, b"1")])
    assert store.commit([Change(A, b"1", None)]) == [Applied()]
    assert store.load([A]) == [None]


def test_record_created_anew_does_not_pass_for_the_old_one(store: EmbeddedStore) -> None:
    store.commit([Change(A, None, b"first life")])
    store.commit([Change(A, b"first life", None)])
    store.commit([Change(A, None, b"second life")])
    assert store.commit([Change(A, b"first life", b"late")]) == [Lost(b"second life")]


@pytest.mark.parametrize("change", [Change(A, None, b"1"), Change(A, b"0", b"1")])
def test_change_that_was_applied_already_is_applied(store: EmbeddedStore, change: Change) -> None:
    store.commit([Change(A, None, b"1")])
    assert store.commit([change]) == [Applied()]
    assert store.counts() == Counts(1, 0)


def test_removal_of_what_is_gone_already_is_applied(store: EmbeddedStore) -> None:
    assert store.commit([Change(A, b"1", None), Change(B, None, None)]) == [Applied(), Applied()]


def test_scan_goes_on_after_the_key_given(store: EmbeddedStore) -> None:
    names = ["c", "a", "b", "b\x00", "\U0001f916", "é"]
    store.commit([Change(Key("", name), None, name.encode()) for name in names])
    expected = [(Key("", name), name.encode()) for name in sorted(names)]
    assert store.scan(None, None, 2) == expected[:2]
    assert store.scan(None, expected[1][0], 2) == expected[2:4]
    assert store.scan(None, Key("", "bb"), 9) == expected[3:]
    assert store.scan(None, expected[-1][0], 2) == []


def test_scan_of_an_owner_ends_with_the_owner(store: EmbeddedStore) -> None:
    keys = [Key(owner, session) for owner in ("", "ann", "ann2", "bob") for session in "xyz"]
    store.commit([Change(key, None, b"1") for key in keys])
    assert [key for key, _ in store.scan("ann", None, 9)] == keys[3:6]
    assert [key for key, _ in store.scan("ann", keys[3], 9)] == keys[4:6]
    assert [key for key, _ in store.scan("ann", keys[5], 9)] == []
    assert [key for key, _ in store.scan("", None, 9)] == keys[:3]
    assert [key for key, _ in store.scan("none", None, 9)] == []
    assert [key for key, _ in store.scan(None, keys[4], 2)] == keys[5:7]


def test_empty_store_has_nothing_to_scan(store: EmbeddedStore) -> None:
    assert store.scan(None, None, 10) == []


def test_counts_are_of_live_and_ended_records(store: EmbeddedStore) -> None:
    assert store.counts() == Counts(0, 0)
    store.commit([Change(A, None, b"1"), Change(B, None, b"1"), Change(C, None, b"1", True, False)])
    assert store.counts() == Counts(2, 1)
    store.commit([Change(A, b"1", b"2"), Change(B, b"1", b"2", True, False)])
    assert store.counts() == Counts(1, 2)
    store.commit([Change(B, b"2", b"3", False, True), Change(C, b"1", None, False, False)])
    assert store.counts() == Counts(2, 0)


def test_counts_of_an_owner_are_of_its_records_alone(store: EmbeddedStore) -> None:
    ann, bob = Key("ann", "a"), Key("bob", "a")
    assert store.counts("ann") == Counts(0, 0)
    store.commit([Change(ann, None, b"1"), Change(bob, None, b"1"), Change(A, None, b"1")])
    assert [store.counts(owner) for owner in ("ann", "bob", "")] == [Counts(1, 0)] * 3
    store.commit([Change(ann, b"1", b"2", True, False)])
    assert store.counts("ann") == Counts(0, 1)
    store.commit([Change(ann, b"2", None, False, False)])
    assert store.counts("ann") == Counts(0, 0)
    assert store.counts("bob") == Counts(1, 0)


def test_change_that_is_lost_leaves_the_counts_alone(store: EmbeddedStore) -> None:
    store.commit([Change(A, None, b"1")])
    store.commit([Change(A, b"0", b"2", True, False)])
    store.commit([Change(A, b"0", None)])
    store.commit([Change(A, None, b"3")])
    assert store.counts() == store.counts(A.owner) == Counts(1, 0)


def test_live_records_are_counted_for_what_they_are_pinned_to(store: EmbeddedStore) -> None:
    assert store.pinned() == {}
    store.commit([Change(A, None, b"1", pin=ONE), Change(B, None, b"1", pin=ONE)])
    store.commit([Change(C, None, b"1", pin=TWO)])
    assert store.pinned() == {ONE: 2, TWO: 1}
    # A step leaves it as it is, the end of a life does not count, the next life may move.
    store.commit([Change(A, b"1", b"2"), Change(B, b"1", b"2", True, False)])
    assert store.pinned() == {ONE: 1, TWO: 1}
    store.commit([Change(A, b"2", b"3", pin=TWO), Change(B, b"2", b"3", False, True, TWO)])
    assert store.pinned() == {TWO: 3}
    store.commit([Change(C, b"1", None, True, False)])
    assert store.pinned() == {TWO: 2}


def test_change_that_is_lost_pins_nothing(store: EmbeddedStore) -> None:
    store.commit([Change(A, None, b"1", pin=ONE)])
    store.commit([Change(A, b"0", b"2", pin=TWO), Change(B, b"0", b"2", pin=TWO)])
    store.commit([Change(A, None, b"1", pin=ONE)])
    assert store.pinned() == {ONE: 1}


def test_server_alone_on_a_store_has_no_peers(store: EmbeddedStore) -> None:
    store.announce(Served(frozenset([ONE, TWO]), frozenset([TWO])))
    store.upkeep()
    assert store.peers() == []


def test_clock_of_a_new_store_begins_at_its_creation(store: EmbeddedStore, time: Time) -> None:
    assert store.now_ns() == 0
    time.pass_s(0.5)
    assert store.now_ns() == SECOND_NS // 2


def test_clock_runs_with_the_upkeep(store: EmbeddedStore, time: Time) -> None:
    for _ in range(100):
        time.pass_s(1.25)
        store.upkeep()
    assert store.now_ns() == 125 * SECOND_NS


def test_clock_stands_after_two_seconds_without_upkeep(store: EmbeddedStore, time: Time) -> None:
    time.pass_s(3_600)
    assert store.now_ns() == 2 * SECOND_NS
    time.pass_s(3_600)
    assert store.now_ns() == 2 * SECOND_NS
    store.upkeep()
    assert store.now_ns() == 2 * SECOND_NS
    time.pass_s(1)
    assert store.now_ns() == 3 * SECOND_NS


OWNERS = ["", "a", "aé"]
KEYS = st.builds(Key, st.sampled_from(OWNERS), st.sampled_from(["a", "a\x00", "b", "k" * 128]))
# The larger ones lie on pages of their own.
VALUES = st.builds(bytes.__mul__, st.sampled_from([b"x", b"y"]), st.sampled_from([1, 400, 20000]))
DRAFTS = st.tuples(
    KEYS,
    st.booleans(),
    st.none() | VALUES,
    st.none() | VALUES,
    st.booleans(),
    st.sampled_from([None, ONE, TWO]),
)
Draft = tuple[Key, bool, bytes | None, bytes | None, bool, Pin | None]


class Plain:
    """The contract once more, on a dictionary of values, whether they are live, and their pins."""

    def __init__(self) -> None:
        self.records: dict[Key, tuple[bytes, bool, Pin | None]] = {}

    def value(self, key: Key) -> bytes | None:
        return self.records[key][0] if key in self.records else None

    def change(self, draft: Draft) -> Change:
        key, is_right, guess, replacement, is_live, pin = draft
        was_live = self.records[key][1] if key in self.records else is_live
        expected = self.value(key) if is_right else guess
        return Change(key, expected, replacement, was_live, is_live, pin)

    def commit(self, change: Change) -> Verdict:
        found = self.value(change.key)
        if found == change.expected:
            _, _, pin = self.records.pop(change.key, (b"", False, None))
            if change.replacement is not None:
                self.records[change.key] = change.replacement, change.is_live, change.pin or pin
            return Applied()
        return Applied() if found == change.replacement else Lost(found)

    def counts(self, owner: str | None = None) -> Counts:
        lives = [
            is_live for key, (_, is_live, _) in self.records.items() if owner in (None, key.owner)
        ]
        return Counts(sum(lives), len(lives) - sum(lives))

    def pinned(self) -> dict[Pin, int]:
        pins = [pin for _, is_live, pin in self.records.values() if is_live]
        return {pin: pins.count(pin) for pin in pins if pin is not None}


class StoresAgree(RuleBasedStateMachine):
    """Every store does what a dictionary does."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.stores: list[EmbeddedStore] = [MemoryStore(), *self.open()]
        self.plain = Plain()

    def open(self) -> list[EmbeddedStore]:
        """Opens the stores that outlive a close."""
        return [SqliteStore.open(self._folder.name)]

    @rule(drafts=st.lists(DRAFTS, max_size=4, unique_by=lambda draft: draft[0]))
    def commit(self, drafts: list[Draft]) -> None:
        changes = [self.plain.change(draft) for draft in drafts]
        expected = [self.plain.commit(change) for change in changes]
        for store in self.stores:
            assert store.commit(changes) == expected

    @rule(keys=st.lists(KEYS, max_size=4))
    def load(self, keys: list[Key]) -> None:
        expected = [self.plain.value(key) for key in keys]
        for store in self.stores:
            assert store.load(keys) == expected

    @rule(after=st.none() | KEYS, is_bounded=st.booleans(), limit=st.integers(1, 4))
    def scan(self, after: Key | None, is_bounded: bool, limit: int) -> None:
        owner = after.owner if after is not None and is_bounded else None
        expected = [
            (key, self.plain.records[key][0])
            for key in sorted(self.plain.records)
            if (after is None or key > after) and owner in (None, key.owner)
        ][:limit]
        for store in self.stores:
            assert store.scan(owner, after, limit) == expected

    @rule(is_upkept=st.booleans())
    def open_again(self, is_upkept: bool) -> None:
        for store in self.stores[1:]:
            if is_upkept:
                store.upkeep()
            store.close()
        self.stores[1:] = self.open()

    @invariant()
    def counts(self) -> None:
        for store in self.stores:
            for owner in (None, *OWNERS):
                assert store.counts(owner) == self.plain.counts(owner)
            assert store.pinned() == self.plain.pinned()

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        self._folder.cleanup()


TestStoresAgree = StoresAgree.TestCase
TestStoresAgree.settings = settings(max_examples=60, stateful_step_count=30)
pytest.mark.lengthy(TestStoresAgree)


def test_postgresql_agrees_with_the_other_stores(databases: Databases) -> None:
    class PostgresAgrees(StoresAgree):
        def __init__(self) -> None:
            self._address = databases.new()
            super().__init__()

        def open(self) -> list[EmbeddedStore]:
            return [*super().open(), BlockingStore(PostgresStore(self._address)).open()]

    # Each example has a new schema, each step some trips.
    run_state_machine_as_test(
        PostgresAgrees, settings=settings(max_examples=15, stateful_step_count=25)
    )
