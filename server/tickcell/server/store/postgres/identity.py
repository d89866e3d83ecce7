"""What a store in PostgreSQL says of itself: its id, its durability and its clock."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from tickcell.server.store.errors import StoreDamagedError
from tickcell.server.store.postgres.levels import Level

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from tickcell.server.store.postgres.address import Address

READ = "SELECT id, durability, clock_ns, checksum FROM tickcell.store"


class Identity(NamedTuple):
    """The one row of the table `store`.

    Attributes:
      id: 16 bytes in hexadecimal, drawn at creation.
      durability: what an acknowledged commit survives.
      clock_ns: the time by the store's clock, as it was kept last.
    """

    id: str
    durability: Level
    clock_ns: int

    @property
    def checksum(self) -> int:
        """The CRC-32 of all of it."""
        return zlib.crc32(f"{self.id} {self.durability}".encode() + struct.pack("<q", self[2]))

    @classmethod
    async def read(cls, address: Address, connection: asyncpg.Connection[Any]) -> Identity:
        """Reads it.

        Raises:
          StoreDamagedError: it does not check out.
        """
        return cls.of(address, await connection.fetch(READ))

    @classmethod
    def of(cls, address: Address, rows: Sequence[Sequence[Any]]) -> Identity:
        """Returns it, from the rows that `READ` gives.

        Raises:
          StoreDamagedError: it does not check out.
        """
        if len(rows) == 1:
            *fields, checksum = rows[0]
            identity = cls(*fields)
            if identity.checksum == checksum and identity.durability in get_args(Level):
                return identity
        raise StoreDamagedError(
            f"{address}: its clock and id are damaged; restore a backup of PostgreSQL's."
        )


async def write_identity(connection: asyncpg.Connection[Any], identity: Identity) -> None:
    """Writes it, whatever was there."""
    await connection.execute(
        "UPDATE tickcell.store SET id = $1, durability = $2, clock_ns = $3, checksum = $4",
        *identity,
        identity.checksum,
    )
