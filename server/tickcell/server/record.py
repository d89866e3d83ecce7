"""One session's record: a value, and the bytes it has in the store.

    header    fixed: version, life, generation, indices, times, sizes, fingerprint
    pin       JSON: what no tick needs (names, request ids, labels)
    state     [B, S] float32
    digests   one per step in the window, oldest first
    outputs   [B, O] float32 per step in the window, oldest first
    checksum  CRC-32 of all before it

The window holds the last W steps at most: for each the digest of its frames, by
which a repeated step is recognised, and its outputs, with which it is answered.
A record is all that the server knows of a session. It changes in one way only:
the store exchanges the bytes for those of the next record, whole.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from typing import NamedTuple

from tickcell.server import errors

VERSION = 1
DIGEST_SIZE = 8
NUMERICS_SIZE = 8

_MAGIC = b"tc"
_HEADER = struct.Struct("<2sBBqqqqqqiiiiiiq32s8si")
_CHECKSUM = struct.Struct("<I")


class Pin(NamedTuple):
    """What a session was created with and no tick needs.

    Attributes:
      model: the model's name.
      model_version: its version.
      request_id: of the call that created the session.
      reset_request_id: of the call that began this generation, if that was a reset.
      labels: the caller's own notes.
    """

    model: str
    model_version: str
    request_id: str
    reset_request_id: str
    labels: dict[str, str]


class Record(NamedTuple):
    """A session at one moment. Times are nanoseconds since 1970.

    Attributes:
      is_deleted: whether the session was deleted; the record is then its tombstone.
      generation: identifies this life.
      next_step: the step that is expected next.
      create_ns: when the session was created.
      renew_ns: when it was last renewed.
      delete_ns: when it was deleted; 0 if it was not.
      idle_ttl_ns: how long it may be idle; 0 if it never expires.
      series_count: B.
      window: W.
      sensor_count: F.
      state_size: S.
      output_count: O.
      kept: the number of steps in the window, at most W and at most next_step.
      numerics_start_step: the first step computed under `numerics`.
      fingerprint: of the model, 32 bytes.
      numerics: the numerics digest under which the state was computed, 8 bytes.
      pin: encoded; see `decode_pin`.
      state: `[B, S]` float32, little-endian.
      digests: `kept` digests, oldest first.
      outputs: `kept` times `[B, O]` float32, little-endian, oldest first.
    """

    is_deleted: int
    generation: int
    next_step: int
    create_ns: int
    renew_ns: int
    delete_ns: int
    idle_ttl_ns: int
    series_count: int
    window: int
    sensor_count: int
    state_size: int
    output_count: int
    kept: int
    numerics_start_step: int
    fingerprint: bytes
    numerics: bytes
    pin: bytes
    state: bytes
    digests: bytes
    outputs: bytes

    @property
    def expire_ns(self) -> int | None:
        """When the session expires unless it is renewed; None if never."""
        return self.renew_ns + self.idle_ttl_ns if self.idle_ttl_ns else None

    @property
    def output_row_size(self) -> int:
        """The bytes of one step's outputs, `[B, O]`."""
        return 4 * self.series_count * self.output_count


def encode(record: Record) -> bytes:
    """Returns the record's bytes."""
    pin = record.pin
    body = b"".join(
        (
            _HEADER.pack(_MAGIC, VERSION, *record[:16], len(pin)),
            pin,
            record.state,
            record.digests,
            record.outputs,
        )
    )
    return body + _CHECKSUM.pack(zlib.crc32(body))


def decode(encoded: bytes) -> Record:
    """Returns the record that the bytes hold.

    Raises:
      RecordDamaged: they do not match their checksum, or are not a record.
    """
    end = len(encoded) - _CHECKSUM.size
    if end < _HEADER.size or _CHECKSUM.unpack_from(encoded, end)[0] != zlib.crc32(encoded[:end]):
        raise errors.RecordDamaged(
            f"a record of {len(encoded)} bytes does not match its checksum; stop the servers and "
            "run: tickcell store recover",
            bytes=len(encoded),
        )
    magic, version, *fields, pin_size = _HEADER.unpack_from(encoded)
    if magic != _MAGIC or version != VERSION:
        raise errors.RecordDamaged(
            f"a record begins with {magic!r} and version {version}, expected {_MAGIC!r} and "
            f"{VERSION}.",
            version=version,
        )
    series_count, state_size, output_count, kept = fields[7], fields[10], fields[11], fields[12]
    pin_end = _HEADER.size + pin_size
    state_end = pin_end + 4 * series_count * state_size
    digests_end = state_end + DIGEST_SIZE * kept
    if end != digests_end + 4 * series_count * output_count * kept:
        raise errors.RecordDamaged(
            f"a record of {len(encoded)} bytes is not as long as its header says.",
            bytes=len(encoded),
        )
    return Record._make(
        (
            *fields,
            encoded[_HEADER.size : pin_end],
            encoded[pin_end:state_end],
            encoded[state_end:digests_end],
            encoded[digests_end:end],
        )
    )


def key(session: str, owner: str = "") -> bytes:
    """Returns the key of a session's record in the store.

    The owner is empty as long as callers are not told apart.
    """
    return f"{owner}\0{session}".encode()


def session_of(key: bytes) -> str:
    """Returns the id of the session whose record has the key."""
    return key.partition(b"\0")[2].decode()


def encode_pin(pin: Pin) -> bytes:
    """Returns a pin's bytes."""
    return json.dumps(pin._asdict(), separators=(",", ":")).encode()


def decode_pin(encoded: bytes) -> Pin:
    """Returns the pin that the bytes hold."""
    return Pin(**json.loads(encoded))


def digest(frame: bytes) -> bytes:
    """Returns the digest of one step's frame: little-endian float32 `[B, F]`."""
    return hashlib.blake2b(frame, digest_size=DIGEST_SIZE).digest()


def advance(
    record: Record, *, state: bytes, digests: bytes, outputs: bytes, numerics: bytes, now_ns: int
) -> Record:
    """Returns the record after some more steps.

    Args:
      record: the record before them.
      state: `[B, S]` float32 after the last of them.
      digests: one per step, in order.
      outputs: `[B, O]` float32 per step, in order.
      numerics: the numerics digest of the cell that computed them.
      now_ns: the time, to which the session is renewed.
    """
    steps = len(digests) // DIGEST_SIZE
    kept = min(record.window, record.kept + steps)
    return record._replace(
        next_step=record.next_step + steps,
        renew_ns=max(now_ns, record.renew_ns),
        kept=kept,
        numerics_start_step=(
            record.numerics_start_step if record.numerics == numerics else record.next_step
        ),
        numerics=numerics,
        state=state,
        digests=(record.digests + digests)[-DIGEST_SIZE * kept :],
        outputs=(record.outputs + outputs)[-record.output_row_size * kept :],
    )
