"""One session's record: a value, and the bytes it has in the store.

    header    fixed: version, indices, time of renewal, numerics
    life      JSON: what no step changes
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

import dataclasses
import functools
import hashlib
import json
import struct
import zlib
from typing import NamedTuple

import numpy as np

from tickcell.server import errors

VERSION = 1
DIGEST_SIZE = 8

_MAGIC = b"tc"
_HEADER = struct.Struct("<2sBxiiqqq8s")
_CHECKSUM = struct.Struct("<I")
# The CRC-32 of any bytes followed by their own CRC-32.
_INTACT = zlib.crc32(_CHECKSUM.pack(zlib.crc32(b"")))

# Up to here, Python's own search is quicker than a call into numpy.
_FEW_BYTES = 128 * 4


@dataclasses.dataclass(frozen=True)
class Life:
    """What no step changes. Times are nanoseconds since 1970.

    Attributes:
      generation: identifies this life.
      create_ns: when the session was created.
      delete_ns: when it was deleted, and its record became a tombstone; else 0.
      idle_ttl_ns: how long it may be idle; 0 if it never expires.
      series_count: B.
      window: W.
      sensor_count: F.
      state_size: S.
      output_count: O.
      model: the model's name.
      model_version: its version.
      fingerprint: its fingerprint, in hexadecimal.
      request_id: of the call that created the session.
      reset_request_id: of the call that began this generation, if that was a reset.
      labels: the caller's own notes.
    """

    generation: int
    create_ns: int
    delete_ns: int
    idle_ttl_ns: int
    series_count: int
    window: int
    sensor_count: int
    state_size: int
    output_count: int
    model: str
    model_version: str
    fingerprint: str
    request_id: str
    reset_request_id: str
    labels: dict[str, str]

    @functools.cached_property
    def encoded(self) -> bytes:
        """The life's bytes."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":")).encode()

    @functools.cached_property
    def frame_size(self) -> int:
        """The bytes of one step's frame, `[B, F]`."""
        return 4 * self.series_count * self.sensor_count

    @functools.cached_property
    def output_size(self) -> int:
        """The bytes of one step's outputs, `[B, O]`."""
        return 4 * self.series_count * self.output_count

    @property
    def full_size(self) -> int:
        """The bytes of state and window once the window is full, which each step rewrites."""
        state_size = 4 * self.series_count * self.state_size
        return state_size + self.window * (DIGEST_SIZE + self.output_size)

    @property
    def is_deleted(self) -> bool:
        """Whether the session was deleted."""
        return self.delete_ns != 0


class Record(NamedTuple):
    """A session at one moment.

    Attributes:
      life: what no step changes.
      kept: the number of steps in the window, at most W and at most `next_step`.
      next_step: the step that is expected next.
      renew_ns: when the session was last renewed, in nanoseconds since 1970.
      numerics_start_step: the first step computed under `numerics`.
      numerics: the numerics digest under which the state was computed, 8 bytes.
      state: `[B, S]` float32, little-endian.
      digests: `kept` digests, oldest first.
      outputs: `kept` times `[B, O]` float32, little-endian, oldest first.
    """

    life: Life
    kept: int
    next_step: int
    renew_ns: int
    numerics_start_step: int
    numerics: bytes
    state: bytes
    digests: bytes
    outputs: bytes

    @property
    def expire_ns(self) -> int | None:
        """When the session expires unless it is renewed; None if never."""
        return self.renew_ns + self.life.idle_ttl_ns if self.life.idle_ttl_ns else None


def problem(key: tuple[str, str], encoded: bytes) -> str | None:
    """Says what is wrong with a record's bytes, in half a sentence; None if nothing is."""
    try:
        loaded(key, encoded)
    except errors.RecordDamaged as error:
        return str(error)
    return None


def encode(record: Record) -> bytes:
    """Returns the record's bytes."""
    life, kept, next_step, renew_ns, start_step, numerics, state, digests, outputs = record
    encoded = life.encoded
    header = _HEADER.pack(
        _MAGIC, VERSION, len(encoded), kept, next_step, renew_ns, start_step, numerics
    )
    body = b"".join((header, encoded, state, digests, outputs))
    return body + _CHECKSUM.pack(zlib.crc32(body))


def decode(encoded: bytes) -> Record:
    """Returns the record that the bytes hold.

    Raises:
      RecordDamaged: they do not match their checksum, or are not a record.
    """
    end = len(encoded) - _CHECKSUM.size
    if end < _HEADER.size or zlib.crc32(encoded) != _INTACT:
        raise errors.RecordDamaged(
            f"a record of {len(encoded)} bytes does not match its checksum; look with: "
            "tickcell store check",
            bytes=len(encoded),
        )
    magic, version, life_size, kept, next_step, renew_ns, start_step, numerics = (
        _HEADER.unpack_from(encoded)
    )
    if magic != _MAGIC or version != VERSION:
        raise errors.RecordDamaged(
            f"a record begins with {magic!r} and version {version}, expected {_MAGIC!r} and "
            f"{VERSION}.",
            version=version,
        )
    life_end = _HEADER.size + life_size
    life = _decode_life(encoded[_HEADER.size : life_end])
    outputs_start = end - life.output_size * kept
    digests_start = outputs_start - DIGEST_SIZE * kept
    if digests_start != life_end + 4 * life.series_count * life.state_size:
        raise errors.RecordDamaged(
            f"a record of {len(encoded)} bytes is not as long as its life says.",
            bytes=len(encoded),
        )
    return Record(
        life,
        kept,
        next_step,
        renew_ns,
        start_step,
        numerics,
        encoded[life_end:digests_start],
        encoded[digests_start:outputs_start],
        encoded[outputs_start:end],
    )


def loaded(key: tuple[str, str], encoded: bytes) -> Record:
    """Returns the record that the bytes hold, which were loaded for an owner and a session.

    Raises:
      RecordDamaged: see `decode`; it names the session.
    """
    try:
        return decode(encoded)
    except errors.RecordDamaged as error:
        _, session = key
        raise errors.RecordDamaged(
            f"{session}: {error}", session=session, **error.metadata
        ) from error


# Most loads are of a session whose last step is a moment ago. It is a function of
# the bytes alone, so nothing is remembered that the store does not hold.
@functools.lru_cache(maxsize=4096)
def _decode_life(encoded: bytes) -> Life:
    try:
        return Life(**json.loads(encoded))
    except (ValueError, TypeError) as error:
        raise errors.RecordDamaged(f"a record's life cannot be read: {error!r}.") from error


def digest(frame: bytes) -> bytes:
    """Returns the digest of one step's frame: little-endian float32 `[B, F]`."""
    return hashlib.blake2b(frame, digest_size=DIGEST_SIZE).digest()


def is_finite(encoded: bytes) -> bool:
    """Says whether all numbers of little-endian float32 are finite."""
    if len(encoded) <= _FEW_BYTES:
        # What is not finite has every bit of its exponent set, seven of them here.
        highest = encoded[3::4]
        if 0x7F not in highest and 0xFF not in highest:
            return True
    return bool(np.isfinite(np.frombuffer(encoded, "<f4")).all())


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
    life, kept, next_step, renew_ns, start_step, old_numerics, _, old_digests, old_outputs = record
    steps = len(digests) // DIGEST_SIZE
    dropped = max(0, kept + steps - life.window)
    return Record(
        life,
        kept + steps - dropped,
        next_step + steps,
        max(now_ns, renew_ns),
        start_step if numerics == old_numerics else next_step,
        numerics,
        state,
        old_digests[DIGEST_SIZE * dropped :] + digests,
        old_outputs[life.output_size * dropped :] + outputs,
    )
