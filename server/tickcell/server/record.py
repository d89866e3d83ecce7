"""One session's record: a value, and the bytes it has in the store.

    header     fixed: version, indices, times of renewal, numerics
    life       JSON: what no step changes
    state      [B, S] float32
    origin     [B, S] float32, where a reset returns to another state than the cell's own
    histories  before the oldest step in the window, and after each step in it
    outputs    [B, O] float32 per step in the window, oldest first
    checksum   CRC-32 of owner and session, and of all before it

The window holds the last W steps at most: for each the history after it, by which a
repeated step is recognised, and its outputs, with which it is answered. A record is
all that the server knows of a session. It changes in one way only: the store exchanges
the bytes for those of the next record, whole.

A record grows at the end of its header and in its life. Fields that a newer server put
there are carried along unchanged, and those that are missing have their default. What an
older server must not carry along without knowing it raises the version, of the records
that have it alone; magic, version and checksum stay where they are in every version, so
that newer and damaged are distinguished.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tickcell.server import errors
from tickcell.wire import history

if TYPE_CHECKING:
    from tickcell.server.clock import Moment

# The newest that is read. A record is written in the oldest that can say what it says.
VERSION = 2

_MAGIC = b"tc"
# Magic, version, bytes of the header and of the life; then the fields of `Record`.
_HEADER = struct.Struct("<2sHHxxiiqqqq8s")
_CHECKSUM = struct.Struct("<I")
# The CRC-32 of any bytes followed by their own CRC-32, wherever it began.
_INTACT = zlib.crc32(_CHECKSUM.pack(zlib.crc32(b"")))

# Up to here, Python's own search is quicker than a call into numpy.
_FEW_BYTES = 128 * 4


class Generation(NamedTuple):
    """A generation of a session that is over.

    Attributes:
      id: identifies it.
      end: how it ended: `claimed`, `reset`, `migrated`, `begun` anew.
    """

    id: int
    end: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Life:
    """What no step changes.

    Attributes:
      generation: identifies this life.
      create_wall_ns: when the session was created, for display: nanoseconds since 1970.
      delete_ns: when it was deleted, by the store's clock, and its record became a
        tombstone; None while it is not.
      delete_wall_ns: the same for display, in nanoseconds since 1970; else 0.
      idle_ttl_ns: how long it may be idle; 0 if it never expires.
      series_count: B.
      window: W.
      max_step_count: the most steps in one request, at most W.
      sensor_count: F.
      state_size: S.
      output_count: O.
      model: the model's name.
      model_version: its version.
      fingerprint: its fingerprint, in hexadecimal.
      request_id: of the call that created the session.
      reset_request_id: of the call that began this generation, if that was a reset.
      labels: the caller's own notes.
      follows: the call that began the life before, if this one was begun in its place; see
        `beginnings.begin`.
      past: the last generations before this one, oldest first.
      claim_request_id: of the call that began this generation, if that was a claim.
      is_claimed: whether it was claimed since it was created, reset or begun; then a step
        names its generation.
      origin_step: the step to which a reset returns.
      origin_history: the history before that step, in hexadecimal; "" of the cell's own
        beginning, which a record does not keep.
      origin_numerics: the numerics digest under which its state was computed, likewise.
      move_request_id: of the call that exported and ended the session.
      migrate_request_id: of the call that began this generation, if that was a migration.
      unknown: the fields of a newer server, by name.
    """

    generation: int
    create_wall_ns: int
    series_count: int
    window: int
    max_step_count: int
    sensor_count: int
    state_size: int
    output_count: int
    model: str
    model_version: str
    fingerprint: str
    request_id: str
    idle_ttl_ns: int = 0
    delete_ns: int | None = None
    delete_wall_ns: int = 0
    reset_request_id: str = ""
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    follows: str = ""
    past: tuple[Generation, ...] = ()
    claim_request_id: str = ""
    is_claimed: bool = False
    origin_step: int = 0
    origin_history: str = ""
    origin_numerics: str = ""
    move_request_id: str = ""
    migrate_request_id: str = ""
    unknown: dict[str, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def encoded(self) -> bytes:
        """The life's bytes."""
        known = {name: getattr(self, name) for name in _LIFE_FIELDS}
        for name, default in _ADDED_FIELDS.items():
            # Most lives have none, and a record from before there was one stays as it is.
            if known[name] == default:
                del known[name]
        return json.dumps(known | self.unknown, separators=(",", ":")).encode()

    @functools.cached_property
    def version(self) -> int:
        """The version of its record: 2 where it has what version 1 would carry along wrongly."""
        is_second = self.is_claimed or self.has_origin
        return 2 if is_second or self.move_request_id or self.migrate_request_id else 1

    @functools.cached_property
    def frame_size(self) -> int:
        """The bytes of one step's frame, `[B, F]`."""
        return 4 * self.series_count * self.sensor_count

    @functools.cached_property
    def output_size(self) -> int:
        """The bytes of one step's outputs, `[B, O]`."""
        return 4 * self.series_count * self.output_count

    @property
    def has_origin(self) -> bool:
        """Whether a reset returns to another state than the cell's own beginning."""
        return self.origin_history != ""

    @property
    def full_size(self) -> int:
        """The bytes of states and window once the window is full, which each step rewrites."""
        state_size = 4 * self.series_count * self.state_size * (1 + self.has_origin)
        return state_size + history.SIZE + self.window * (history.SIZE + self.output_size)

    def wider(self, times: int) -> Life:
        """Returns a life of so many times the series."""
        return dataclasses.replace(self, series_count=self.series_count * times)

    @functools.cached_property
    def is_over(self) -> bool:
        """Whether somebody has ended the session, or noticed its end: it is a tombstone."""
        return self.state_size == 0 or self.move_request_id != ""

    @property
    def is_deleted(self) -> bool:
        """Whether the session was deleted, or moved elsewhere."""
        return self.delete_ns is not None


_LIFE_FIELDS = tuple(field.name for field in dataclasses.fields(Life) if field.name != "unknown")
_ADDED_FIELDS: dict[str, Any] = {
    "follows": "",
    "past": (),
    "claim_request_id": "",
    "is_claimed": False,
    "origin_step": 0,
    "origin_history": "",
    "origin_numerics": "",
    "move_request_id": "",
    "migrate_request_id": "",
}


class Record(NamedTuple):
    """A session at one moment.

    Attributes:
      life: what no step changes.
      kept: the number of steps in the window, at most W and at most `next_step`.
      next_step: the step that is expected next.
      renew_ns: when the session was last renewed, by the store's clock.
      renew_wall_ns: the same for display, in nanoseconds since 1970.
      numerics_start_step: the first step computed under `numerics`.
      numerics: the numerics digest under which the state was computed, 8 bytes.
      state: `[B, S]` float32, little-endian.
      histories: `kept` + 1 histories, oldest first: before the oldest step in the window,
        and after each step in it.
      outputs: `kept` times `[B, O]` float32, little-endian, oldest first.
      unknown: what a newer server has at the end of the header.
      origin: `[B, S]` float32, the state to which a reset returns; empty for the cell's own
        initial state.
    """

    life: Life
    kept: int
    next_step: int
    renew_ns: int
    renew_wall_ns: int
    numerics_start_step: int
    numerics: bytes
    state: bytes
    histories: bytes
    outputs: bytes
    unknown: bytes = b""
    origin: bytes = b""

    @property
    def expire_wall_ns(self) -> int | None:
        """When it expires unless it is renewed, for display; None if never.

        It is later where the store's clock, by which it expires, stands still meanwhile.
        """
        return self.renew_wall_ns + self.life.idle_ttl_ns if self.life.idle_ttl_ns else None

    def history_before(self, step: int) -> bytes:
        """Returns the history before a step of the window, or before the next step."""
        start = (step - self.next_step + self.kept) * history.SIZE
        return self.histories[start : start + history.SIZE]


def encode(key: tuple[str, str], record: Record) -> bytes:
    """Returns the record's bytes.

    Args:
      key: the owner and the session of the record.
      record: what to encode.
    """
    life, *fields, state, histories, outputs, unknown, origin = record
    encoded = life.encoded
    header = _HEADER.pack(_MAGIC, life.version, _HEADER.size + len(unknown), len(encoded), *fields)
    body = b"".join((header, unknown, encoded, state, origin, histories, outputs))
    return body + _CHECKSUM.pack(zlib.crc32(body, _crc_of(key)))


def decode(key: tuple[str, str], encoded: bytes) -> Record:
    """Returns the record that the bytes hold.

    Args:
      key: the owner and the session under which the bytes were found.
      encoded: the bytes.

    Raises:
      RecordDamaged: they do not match their checksum, are another session's record, or none.
      RecordNewer: a newer tickcell wrote them in a version that is not read here.
    """
    end = len(encoded) - _CHECKSUM.size
    if end < _HEADER.size or zlib.crc32(encoded, _crc_of(key)) != _INTACT:
        raise _damaged(key, "does not match its checksum", encoded)
    magic, version, header_size, life_size, *fields = _HEADER.unpack_from(encoded)
    if magic != _MAGIC or version < 1:
        raise _damaged(key, f"begins with {magic!r} and version {version}", encoded)
    if version > VERSION:
        raise _newer(key, version)
    if header_size < _HEADER.size:
        # Of a server that did not have the last fields yet.
        _, _, _, _, *fields = _HEADER.unpack(encoded[:header_size].ljust(_HEADER.size, b"\0"))
    life_end = header_size + life_size
    life = _decode_life(encoded[header_size:life_end])
    if life is None:
        raise _damaged(key, "has a life that cannot be read", encoded)
    kept = fields[0]
    outputs_start = end - life.output_size * kept
    histories_start = outputs_start - history.SIZE * (kept + 1)
    origin_start = life_end + 4 * life.series_count * life.state_size
    state_size = origin_start - life_end
    if kept < 0 or histories_start != origin_start + state_size * life.has_origin:
        raise _damaged(key, "does not have the length that its life requires", encoded)
    return Record._make(
        (
            life,
            *fields,
            encoded[life_end:origin_start],
            encoded[histories_start:outputs_start],
            encoded[outputs_start:end],
            encoded[_HEADER.size : header_size],
            encoded[origin_start:histories_start],
        )
    )


def problem(key: tuple[str, str], encoded: bytes) -> str | None:
    """Returns why a record cannot be read, in half a sentence; None if it can."""
    try:
        decode(key, encoded)
    except (errors.RecordDamaged, errors.RecordNewer) as error:
        return error.metadata["problem"]
    return None


@functools.lru_cache(maxsize=4096)
def _crc_of(key: tuple[str, str]) -> int:
    """Returns what the checksum begins with, so that another session's record is damage."""
    owner, session = key
    return zlib.crc32(f"{owner}\0{session}".encode())


# Most loads are of a session whose last step is a moment ago. It is a function of
# the bytes alone, so nothing is remembered that the store does not hold.
@functools.lru_cache(maxsize=4096)
def _decode_life(encoded: bytes) -> Life | None:
    """Returns the life that the bytes hold; None if they hold none."""
    try:
        unknown = json.loads(encoded)
        known = {name: unknown.pop(name) for name in _LIFE_FIELDS if name in unknown}
        if "past" in known:
            known["past"] = tuple(Generation(*each) for each in known["past"])
        return Life(**known, unknown=unknown)
    except (ValueError, TypeError):
        return None


def _damaged(key: tuple[str, str], problem: str, encoded: bytes) -> errors.RecordDamaged:
    return errors.RecordDamaged(
        f"{key[1]}: its record of {len(encoded)} bytes {problem}; restore a backup of the store, "
        "or create another session.",
        session=key[1],
        bytes=len(encoded),
        problem=f"it {problem}",
    )


def _newer(key: tuple[str, str], version: int) -> errors.RecordNewer:
    return errors.RecordNewer(
        f"{key[1]}: its record has version {version}, and this tickcell reads up to {VERSION}; "
        "serve it with a newer one.",
        session=key[1],
        version=version,
        max_version=VERSION,
        problem=f"it has version {version}, which only a newer tickcell reads",
    )


def is_finite(encoded: bytes | memoryview) -> bool:
    """Says whether all numbers of little-endian float32 are finite."""
    if len(encoded) <= _FEW_BYTES:
        # What is not finite has every bit of its exponent set, seven of them here.
        highest = encoded[3::4]
        if 0x7F not in highest and 0xFF not in highest:
            return True
    return bool(np.isfinite(np.frombuffer(encoded, "<f4")).all())


def advance(
    record: Record, *, state: bytes, histories: bytes, outputs: bytes, numerics: bytes, now: Moment
) -> Record:
    """Returns the record after some more steps.

    Args:
      record: the record before them.
      state: `[B, S]` float32 after the last of them.
      histories: after each of them, in order.
      outputs: `[B, O]` float32 per step, in order.
      numerics: the numerics digest of the cell that computed them.
      now: the moment to which the session is renewed.
    """
    (
        life,
        kept,
        next_step,
        renew_ns,
        _,
        start_step,
        old_numerics,
        _,
        old_histories,
        old_outputs,
        unknown,
        origin,
    ) = record
    steps = len(histories) // history.SIZE
    dropped = max(0, kept + steps - life.window)
    return Record(
        life,
        kept + steps - dropped,
        next_step + steps,
        max(now.store_ns, renew_ns),
        now.wall_ns,
        start_step if numerics == old_numerics else next_step,
        numerics,
        state,
        old_histories[history.SIZE * dropped :] + histories,
        old_outputs[life.output_size * dropped :] + outputs,
        unknown,
        origin,
    )
