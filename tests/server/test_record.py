"""A record is its bytes and no others: what is not as it was written is caught."""

from __future__ import annotations

import dataclasses
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickcell.server import errors, record
from tickcell.server.record import DIGEST_SIZE, Life, Record

int64s = st.integers(0, 2**63 - 1)
texts = st.text(max_size=20)


@st.composite
def records(draw: st.DrawFn) -> Record:
    life = Life(
        generation=draw(st.integers(1, 2**53 - 1)),
        create_ns=draw(int64s),
        delete_ns=draw(int64s),
        idle_ttl_ns=draw(int64s),
        series_count=draw(st.integers(1, 4)),
        window=draw(st.integers(1, 6)),
        sensor_count=draw(st.integers(1, 4)),
        state_size=draw(st.integers(0, 4)),
        output_count=draw(st.integers(1, 3)),
        model=draw(texts),
        model_version=draw(texts),
        fingerprint=draw(texts),
        request_id=draw(texts),
        reset_request_id=draw(texts),
        labels=draw(st.dictionaries(texts, texts, max_size=3)),
    )
    kept = draw(st.integers(0, life.window))
    state_bytes = 4 * life.series_count * life.state_size
    return Record(
        life=life,
        kept=kept,
        next_step=draw(st.integers(kept, 2**63 - 1)),
        renew_ns=draw(int64s),
        numerics_start_step=draw(int64s),
        numerics=draw(st.binary(min_size=8, max_size=8)),
        state=draw(st.binary(min_size=state_bytes, max_size=state_bytes)),
        digests=bytes(range(DIGEST_SIZE)) * kept,
        outputs=draw(st.binary(min_size=kept * life.output_size, max_size=kept * life.output_size)),
    )


LIFE = Life(
    generation=7,
    create_ns=1,
    delete_ns=0,
    idle_ttl_ns=5,
    series_count=2,
    window=3,
    sensor_count=1,
    state_size=2,
    output_count=1,
    model="counting",
    model_version="1",
    fingerprint="f" * 64,
    request_id="r",
    reset_request_id="",
    labels={"driver": "Zoë"},
)
BEGINNING = Record(LIFE, 0, 0, 1, 0, b"numerics", bytes(16), b"", b"")


def advanced(old: Record, steps: int, **fields: Any) -> Record:
    """Advances a record by some steps whose outputs and digests are their indices."""
    indices = range(old.next_step, old.next_step + steps)
    return record.advance(
        old,
        **{
            "state": struct.pack("<4f", *[indices[-1] + 1] * 4),
            "digests": b"".join(struct.pack("<q", index) for index in indices),
            "outputs": b"".join(struct.pack("<2f", index, -index) for index in indices),
            "numerics": b"numerics",
            "now_ns": 10,
            **fields,
        },
    )


def with_checksum(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


@given(records())
def test_decoded_record_is_the_one_that_was_encoded(written: Record) -> None:
    assert record.decode(record.encode(written)) == written


@given(records())
def test_decoded_record_encodes_to_the_same_bytes(written: Record) -> None:
    encoded = record.encode(written)
    assert record.encode(record.decode(encoded)) == encoded


def test_each_flipped_bit_is_caught() -> None:
    encoded = record.encode(advanced(BEGINNING, 3))
    for bit in range(8 * len(encoded)):
        flipped = bytearray(encoded)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(errors.RecordDamaged):
            record.decode(bytes(flipped))


def test_each_truncation_is_caught() -> None:
    encoded = record.encode(advanced(BEGINNING, 3))
    for end in range(len(encoded)):
        with pytest.raises(errors.RecordDamaged):
            record.decode(encoded[:end])


def test_more_than_a_record_is_caught() -> None:
    encoded = record.encode(BEGINNING)
    for more in (b"\0", encoded):
        with pytest.raises(errors.RecordDamaged):
            record.decode(encoded + more)


def test_two_halves_of_different_records_are_caught() -> None:
    old = record.encode(advanced(BEGINNING, 3))
    new = record.encode(advanced(advanced(BEGINNING, 3), 1))
    assert len(old) == len(new)
    for cut in range(1, len(old)):
        torn = new[:cut] + old[cut:]
        if torn not in (old, new):
            with pytest.raises(errors.RecordDamaged):
                record.decode(torn)


@pytest.mark.parametrize(
    ("start", "replacement", "message"),
    [(0, b"xx", "begins with b'xx'"), (2, b"\x02", "version 2, expected"), (2, b"\0", "version 0")],
)
def test_record_of_another_version_is_refused_though_its_checksum_is_right(
    start: int, replacement: bytes, message: str
) -> None:
    body = bytearray(record.encode(BEGINNING)[:-4])
    body[start : start + len(replacement)] = replacement
    with pytest.raises(errors.RecordDamaged, match=message):
        record.decode(with_checksum(bytes(body)))


@pytest.mark.parametrize(
    "change", [{"series_count": 3}, {"state_size": 3}, {"generation": None}, {"more": 1}]
)
def test_record_that_does_not_fit_its_life_is_refused_though_its_checksum_is_right(
    change: dict[str, Any],
) -> None:
    body = record.encode(advanced(BEGINNING, 3))[:-4]
    fields = {**dataclasses.asdict(LIFE), **change}
    fields = {name: value for name, value in fields.items() if value is not None}
    life = json.dumps(fields, separators=(",", ":")).encode()
    header_size = body.index(b"{")
    header = bytearray(body[:header_size])
    struct.pack_into("<i", header, 4, len(life))
    rest = body[header_size + len(LIFE.encoded) :]
    with pytest.raises(errors.RecordDamaged):
        record.decode(with_checksum(bytes(header) + life + rest))


def test_window_keeps_the_last_steps_and_no_more() -> None:
    current = BEGINNING
    for steps in (1, 1, 3, 2, 3):
        current = advanced(current, steps)
        kept = min(LIFE.window, current.next_step)
        indices = range(current.next_step - kept, current.next_step)
        assert current.kept == kept
        assert struct.unpack(f"<{kept}q", current.digests) == tuple(indices)
        outputs = np.frombuffer(current.outputs, "<f4").reshape(kept, 2)
        assert outputs[:, 0].tolist() == list(indices)
    assert current.next_step == 10


def test_time_of_renewal_never_goes_back() -> None:
    later = advanced(BEGINNING, 1, now_ns=100)
    assert advanced(later, 1, now_ns=50).renew_ns == 100


def test_numerics_begin_with_the_first_step_under_them() -> None:
    current = advanced(advanced(BEGINNING, 2), 1)
    assert (current.numerics, current.numerics_start_step) == (b"numerics", 0)
    current = advanced(advanced(current, 2, numerics=b"otherone"), 3, numerics=b"otherone")
    assert (current.numerics, current.numerics_start_step) == (b"otherone", 3)


def test_session_that_never_expires_has_no_time_for_it() -> None:
    assert BEGINNING.expire_ns == 1 + 5
    timeless = BEGINNING._replace(life=dataclasses.replace(LIFE, idle_ttl_ns=0))
    assert timeless.expire_ns is None


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


def test_digest_tells_frames_apart() -> None:
    frames = [np.array(values, "<f4").tobytes() for values in ([0.0], [-0.0], [1.0], [0.0, 0.0])]
    digests = {record.digest(frame) for frame in frames}
    assert len(digests) == len(frames)
    assert {len(digest) for digest in digests} == {DIGEST_SIZE}
