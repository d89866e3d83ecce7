"""A record is its bytes and no others: what is not as it was written is caught.

The golden records are what servers have written. They are never written again: a new
version, or a new field, brings a golden record of its own, and those there are must be read.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import struct
import zlib
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickcell.server import beginnings, errors, handovers, lives, record
from tickcell.server.clock import Moment
from tickcell.server.record import Generation, Life, Record
from tickcell.wire import history

GOLDEN = pathlib.Path(__file__).parent / "golden_records"
KEY = ("owner", "session")

int64s = st.integers(0, 2**63 - 1)
texts = st.text(max_size=20)
keys = st.tuples(texts, texts)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    window = draw(st.integers(1, 6))
    life = Life(
        generation=draw(st.integers(1, 2**53 - 1)),
        create_wall_ns=draw(int64s),
        delete_ns=draw(st.none() | int64s),
        delete_wall_ns=draw(int64s),
        idle_ttl_ns=draw(int64s),
        series_count=draw(st.integers(1, 4)),
        window=window,
        max_step_count=draw(st.integers(1, window)),
        sensor_count=draw(st.integers(1, 4)),
        state_size=draw(st.integers(0, 4)),
        output_count=draw(st.integers(1, 3)),
        model=draw(texts),
        model_version=draw(texts),
        fingerprint=draw(texts),
        request_id=draw(texts),
        reset_request_id=draw(texts),
        labels=draw(st.dictionaries(texts, texts, max_size=3)),
        follows=draw(texts),
        past=tuple(draw(st.lists(st.builds(Generation, int64s, texts), max_size=3))),
        claim_request_id=draw(texts),
        is_claimed=draw(st.booleans()),
        origin_step=draw(int64s),
        origin_history=draw(st.sampled_from(["", "0123456789abcdef"])),
        origin_numerics=draw(st.sampled_from(["", "fedcba9876543210"])),
        move_request_id=draw(texts),
        migrate_request_id=draw(texts),
        unknown=draw(st.dictionaries(st.text("xyz", min_size=1), json_values, max_size=3)),
    )
    kept = draw(st.integers(0, life.window))
    state_bytes = 4 * life.series_count * life.state_size
    origin_bytes = state_bytes if life.has_origin else 0
    return Record(
        life=life,
        kept=kept,
        next_step=draw(st.integers(kept, 2**63 - 1)),
        renew_ns=draw(int64s),
        renew_wall_ns=draw(int64s),
        numerics_start_step=draw(int64s),
        numerics=draw(st.binary(min_size=8, max_size=8)),
        state=draw(st.binary(min_size=state_bytes, max_size=state_bytes)),
        histories=bytes(range(history.SIZE)) * (kept + 1),
        outputs=draw(st.binary(min_size=kept * life.output_size, max_size=kept * life.output_size)),
        unknown=draw(st.binary(max_size=20)),
        origin=draw(st.binary(min_size=origin_bytes, max_size=origin_bytes)),
    )


LIFE = Life(
    generation=7,
    create_wall_ns=1,
    idle_ttl_ns=5,
    series_count=2,
    window=3,
    max_step_count=3,
    sensor_count=1,
    state_size=2,
    output_count=1,
    model="counting",
    model_version="1",
    fingerprint="f" * 64,
    request_id="r",
    labels={"driver": "Zoë"},
)
BEGINNING = Record(LIFE, 0, 0, 1, 9, 0, b"numerics", bytes(16), history.START, b"")


def advanced(old: Record, steps: int, **fields: Any) -> Record:
    """Advances a record by some steps whose outputs are their indices, and histories the next."""
    indices = range(old.next_step, old.next_step + steps)
    return record.advance(
        old,
        **{
            "state": struct.pack("<4f", *[indices[-1] + 1] * 4),
            "histories": b"".join(struct.pack("<q", index + 1) for index in indices),
            "outputs": b"".join(struct.pack("<2f", index, -index) for index in indices),
            "numerics": b"numerics",
            "now": Moment(10, 20),
            **fields,
        },
    )


def with_checksum(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body, zlib.crc32(b"owner\0session")))


def rewritten(written: Record, change: dict[str, Any], header: bytes | None = None) -> bytes:
    """Returns a record as another server may have written it.

    Args:
      written: the record.
      change: fields of its life to set, or to leave out where they are None.
      header: instead of its own.
    """
    body = record.encode(KEY, written)[:-4]
    (header_size,) = struct.unpack_from("<H", body, 4)
    fields = {**json.loads(written.life.encoded), **change}
    life = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
    new_header = bytearray(body[:header_size] if header is None else header)
    struct.pack_into("<Hxxi", new_header, 4, len(new_header), len(life))
    return with_checksum(bytes(new_header) + life + body[header_size + len(written.life.encoded) :])


@given(keys, records())
def test_decoded_record_is_the_one_that_was_encoded(key: tuple[str, str], written: Record) -> None:
    assert record.decode(key, record.encode(key, written)) == written


@given(keys, records())
def test_decoded_record_encodes_to_the_same_bytes(key: tuple[str, str], written: Record) -> None:
    encoded = record.encode(key, written)
    assert record.encode(key, record.decode(key, encoded)) == encoded


class TestGoldenRecords:
    """What each version wrote is read, and what is written is what the last one wrote."""

    LIFE = Life(
        generation=4503599627370497,
        create_wall_ns=1_700_000_000_123_456_789,
        idle_ttl_ns=86_400_000_000_000,
        series_count=2,
        window=3,
        max_step_count=2,
        sensor_count=4,
        state_size=3,
        output_count=1,
        model="drive",
        model_version="2",
        fingerprint="0123456789abcdef" * 4,
        request_id="6f1ed002-ab5c-4a4f-9d2c-1c0e6b2f7a31",
        reset_request_id="0c9a1f0e-7a3b-4d0c-8a53-3f1f0f3cf4a5",
        labels={"driver": "Zoë", "route": ""},
    )
    ALIVE = Record(
        life=LIFE,
        kept=3,
        next_step=1_000_003,
        renew_ns=5_000_000_000,
        renew_wall_ns=1_700_000_060_000_000_001,
        numerics_start_step=1_000_001,
        numerics=b"NUMERICS",
        state=np.arange(6, dtype="<f4").tobytes(),
        histories=b"history0history1history2history3",
        outputs=np.arange(10, 16, dtype="<f4").tobytes(),
    )
    DELETED = ALIVE._replace(
        life=dataclasses.replace(
            LIFE, delete_ns=6_000_000_000, delete_wall_ns=1_700_000_061_000_000_002, state_size=0
        ),
        kept=0,
        state=b"",
        histories=b"history3",
        outputs=b"",
    )
    BEGUN = ALIVE._replace(
        life=dataclasses.replace(LIFE, follows="9b2f8c1d-5e64-4f0a-b3a7-2d1c6e8f0a95")
    )
    RESET = ALIVE._replace(
        life=dataclasses.replace(LIFE, past=(Generation(4503599627370490, "reset"),))
    )
    CLAIMED = ALIVE._replace(
        life=dataclasses.replace(
            LIFE,
            past=(Generation(4503599627370490, "reset"), Generation(4503599627370491, "claimed")),
            reset_request_id="",
            claim_request_id="1d7f5a3c-90b2-4e68-8c1d-7a2e4b6f8d03",
            is_claimed=True,
        )
    )
    FORKED = ALIVE._replace(
        life=dataclasses.replace(
            LIFE,
            reset_request_id="",
            origin_step=1_000_000,
            origin_history=b"history0".hex(),
            origin_numerics=b"numerics".hex(),
        ),
        origin=np.arange(20, 26, dtype="<f4").tobytes(),
    )
    MOVED = ALIVE._replace(
        life=dataclasses.replace(
            LIFE,
            delete_ns=6_000_000_000,
            delete_wall_ns=1_700_000_061_000_000_002,
            move_request_id="2e8a6b4d-01c3-4f79-9d2e-8b3f5c7a9e14",
        )
    )
    MIGRATED = ALIVE._replace(
        life=dataclasses.replace(
            LIFE,
            model_version="3",
            past=(Generation(4503599627370490, "migrated"),),
            reset_request_id="",
            migrate_request_id="3f9b7c5e-12d4-4a8b-8e3f-9c4a6d8b0f25",
        )
    )
    RECORDS: ClassVar = {
        "version_1": ALIVE,
        "version_1_deleted": DELETED,
        "version_1_begun": BEGUN,
        "version_1_reset": RESET,
        "version_2_claimed": CLAIMED,
        "version_2_forked": FORKED,
        "version_2_moved": MOVED,
        "version_2_migrated": MIGRATED,
    }
    WRITTEN = pytest.mark.parametrize(("name", "written"), RECORDS.items())

    @WRITTEN
    def test_it_is_read(self, name: str, written: Record) -> None:
        assert record.decode(KEY, (GOLDEN / name).read_bytes()) == written

    @WRITTEN
    def test_it_is_what_is_written(self, name: str, written: Record) -> None:
        assert record.encode(KEY, written) == (GOLDEN / name).read_bytes()

    def test_each_file_is_tried(self) -> None:
        files = {path.name for path in GOLDEN.iterdir()}
        assert files == {*self.RECORDS}


class TestDamage:
    def test_each_flipped_bit_is_caught(self) -> None:
        encoded = record.encode(KEY, advanced(BEGINNING, 3))
        for bit in range(8 * len(encoded)):
            flipped = bytearray(encoded)
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(errors.RecordDamaged):
                record.decode(KEY, bytes(flipped))

    def test_each_truncation_is_caught(self) -> None:
        encoded = record.encode(KEY, advanced(BEGINNING, 3))
        for end in range(len(encoded)):
            with pytest.raises(errors.RecordDamaged):
                record.decode(KEY, encoded[:end])

    def test_more_than_a_record_is_caught(self) -> None:
        encoded = record.encode(KEY, BEGINNING)
        for more in (b"\0", encoded):
            with pytest.raises(errors.RecordDamaged):
                record.decode(KEY, encoded + more)

    def test_two_halves_of_different_records_are_caught(self) -> None:
        old = record.encode(KEY, advanced(BEGINNING, 3))
        new = record.encode(KEY, advanced(advanced(BEGINNING, 3), 1))
        assert len(old) == len(new)
        for cut in range(1, len(old)):
            torn = new[:cut] + old[cut:]
            if torn not in (old, new):
                with pytest.raises(errors.RecordDamaged):
                    record.decode(KEY, torn)

    @pytest.mark.parametrize(
        "key",
        [("owner", "sessioN"), ("owneR", "session"), ("", "session"), ("ownersession", "")],
        ids=str,
    )
    def test_record_found_under_another_key_is_caught(self, key: tuple[str, str]) -> None:
        encoded = record.encode(KEY, advanced(BEGINNING, 3))
        with pytest.raises(errors.RecordDamaged, match="does not match its checksum") as caught:
            record.decode(key, encoded)
        assert caught.value.metadata["session"] == key[1]

    @pytest.mark.parametrize(
        ("start", "replacement", "message"),
        [(0, b"xx", "begins with b'xx'"), (2, b"\0", "and version 0")],
    )
    def test_what_is_no_record_is_refused_though_its_checksum_is_right(
        self, start: int, replacement: bytes, message: str
    ) -> None:
        body = bytearray(record.encode(KEY, BEGINNING)[:-4])
        body[start : start + len(replacement)] = replacement
        with pytest.raises(errors.RecordDamaged, match=message):
            record.decode(KEY, with_checksum(bytes(body)))

    @pytest.mark.parametrize(
        "change", [{"series_count": 3}, {"state_size": 3}, {"generation": None}, {"window": None}]
    )
    def test_record_that_does_not_fit_its_life_is_refused_though_its_checksum_is_right(
        self, change: dict[str, Any]
    ) -> None:
        written = advanced(BEGINNING, 3)
        assert record.decode(KEY, rewritten(written, {})) == written
        with pytest.raises(errors.RecordDamaged):
            record.decode(KEY, rewritten(written, change))

    def test_problem_is_half_a_sentence(self) -> None:
        encoded = record.encode(KEY, BEGINNING)
        assert record.problem(KEY, encoded) is None
        assert record.problem(KEY, encoded[:-1]) == "it does not match its checksum"
        newer = with_checksum(encoded[:2] + b"\x03" + encoded[3:-4])
        assert record.problem(KEY, newer) == "it has version 3, which only a newer tickcell reads"


class TestGrowth:
    """Servers of different versions share a store."""

    MORE = pytest.mark.parametrize("more", [b"\x01", b"of a later version"])

    @pytest.mark.parametrize("version", [3, 300])
    def test_version_that_is_newer_is_no_damage(self, version: int) -> None:
        body = bytearray(record.encode(KEY, BEGINNING)[:-4])
        struct.pack_into("<H", body, 2, version)
        with pytest.raises(errors.RecordNewer, match="serve it with a newer one") as caught:
            record.decode(KEY, with_checksum(bytes(body)))
        assert caught.value.metadata["version"] == str(version)
        assert caught.value.metadata["max_version"] == "2"
        assert caught.value.metadata["session"] == "session"

    def test_flipped_bit_in_the_version_is_damage(self) -> None:
        encoded = bytearray(record.encode(KEY, BEGINNING))
        encoded[2] ^= 2
        with pytest.raises(errors.RecordDamaged):
            record.decode(KEY, bytes(encoded))

    @given(st.dictionaries(st.text("xyz", min_size=1), json_values, min_size=1, max_size=3))
    def test_life_s_unknown_fields_are_kept(self, more: dict[str, Any]) -> None:
        more = {name: value for name, value in more.items() if value is not None}
        found = record.decode(KEY, rewritten(advanced(BEGINNING, 2), more))
        assert found.life.unknown == more
        again = record.decode(KEY, record.encode(KEY, found))
        assert again.life.unknown == more
        assert again == found

    @MORE
    def test_header_s_unknown_fields_are_kept(self, more: bytes) -> None:
        written = advanced(BEGINNING, 2)
        longer = rewritten(written, {}, record.encode(KEY, written)[: header_size()] + more)
        found = record.decode(KEY, longer)
        assert found == written._replace(unknown=more)
        assert record.decode(KEY, record.encode(KEY, found)) == found

    @pytest.mark.parametrize(
        "rewrite",
        [
            lambda found: advanced(found, 2),
            lambda found: lives.touch(found, "session", 7, Moment(2, 2)),
            lambda found: beginnings.reset(
                found,
                "session",
                7,
                "again",
                8,
                lambda _: beginnings.Start(b"numerics", bytes(16)),
                Moment(2, 2),
            ),
            lambda found: handovers.claim(found, "session", 7, "mine", 8, Moment(2, 2)),
            lambda found: lives.delete(found, "session", 7, Moment(2, 2), 10),
        ],
        ids=["step", "touch", "reset", "claim", "delete"],
    )
    def test_no_rewriting_loses_what_a_newer_server_wrote(self, rewrite: Any) -> None:
        written = advanced(BEGINNING, 2)
        header = record.encode(KEY, written)[: header_size()] + b"more"
        more = {"owner_role": "driver", "base": {"step": 3}}
        found = record.decode(KEY, rewritten(written, more, header))
        again = record.decode(KEY, record.encode(KEY, rewrite(found)))
        assert again != found
        assert (again.life.unknown, again.unknown) == (more, b"more")

    @pytest.mark.parametrize(
        ("name", "default"),
        [
            ("idle_ttl_ns", 0),
            ("delete_ns", None),
            ("delete_wall_ns", 0),
            ("reset_request_id", ""),
            ("labels", {}),
            ("follows", ""),
        ],
    )
    def test_life_s_missing_field_has_its_default(self, name: str, default: Any) -> None:
        found = record.decode(KEY, rewritten(BEGINNING, {name: None}))
        assert getattr(found.life, name) == default
        assert found.life == dataclasses.replace(LIFE, **{name: default})

    def test_header_s_missing_fields_are_zero(self) -> None:
        written = advanced(BEGINNING, 2, numerics=b"otherone")
        header = record.encode(KEY, written)[: header_size() - 16]
        found = record.decode(KEY, rewritten(written, {}, header))
        assert found == written._replace(numerics_start_step=0, numerics=bytes(8))


def header_size() -> int:
    (size,) = struct.unpack_from("<H", record.encode(KEY, BEGINNING), 4)
    return int(size)


def test_window_keeps_the_last_steps_and_no_more() -> None:
    current = BEGINNING
    for steps in (1, 1, 3, 2, 3):
        current = advanced(current, steps)
        kept = min(LIFE.window, current.next_step)
        indices = range(current.next_step - kept, current.next_step)
        assert current.kept == kept
        assert struct.unpack(f"<{kept + 1}q", current.histories) == (*indices, current.next_step)
        for step in (*indices, current.next_step):
            assert current.history_before(step) == struct.pack("<q", step)
        outputs = np.frombuffer(current.outputs, "<f4").reshape(kept, 2)
        assert outputs[:, 0].tolist() == list(indices)
    assert current.next_step == 10


def test_time_of_renewal_never_goes_back() -> None:
    later = advanced(BEGINNING, 1, now=Moment(100, 7))
    again = advanced(later, 1, now=Moment(50, 3))
    assert (again.renew_ns, again.renew_wall_ns) == (100, 3)


def test_numerics_begin_with_the_first_step_under_them() -> None:
    current = advanced(advanced(BEGINNING, 2), 1)
    assert (current.numerics, current.numerics_start_step) == (b"numerics", 0)
    current = advanced(advanced(current, 2, numerics=b"otherone"), 3, numerics=b"otherone")
    assert (current.numerics, current.numerics_start_step) == (b"otherone", 3)


def test_session_that_never_expires_has_no_time_for_it() -> None:
    assert BEGINNING.expire_wall_ns == 9 + 5
    timeless = BEGINNING._replace(life=dataclasses.replace(LIFE, idle_ttl_ns=0))
    assert timeless.expire_wall_ns is None


@pytest.mark.parametrize("count", [1, 10, 127, 128, 129, 5000])
def test_one_number_that_is_not_finite_is_found(count: int) -> None:
    numbers = np.full(count, np.finfo(np.float32).max, "<f4")
    assert record.is_finite(numbers.tobytes())
    assert record.is_finite((-numbers).tobytes())
    for place in {0, count // 2, count - 1}:
        for wrong in (np.nan, np.inf, -np.inf):
            changed = numbers.copy()
            changed[place] = wrong
            assert not record.is_finite(changed.tobytes())


def test_infinities_of_both_signs_do_not_cancel() -> None:
    assert not record.is_finite(np.array([np.inf, -np.inf], "<f4").tobytes())
