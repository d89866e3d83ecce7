"""The tables of a store in PostgreSQL, and how they come to be.

Keys are bytes, so that their order is the one of every store, whatever the collation.
Nothing here names what other engines of this protocol are known to lack but the two
settings of the table of records, which change no answer.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import asyncpg

from tickcell.server.store.errors import (
    NewerSchemaError,
    NoSchemaError,
    OlderSchemaError,
    OtherDurabilityError,
    StorePermissionError,
    StoreStartError,
)
from tickcell.server.store.postgres import refusals
from tickcell.server.store.postgres.identity import Identity, write_identity

if TYPE_CHECKING:
    from tickcell.server.store.postgres.address import Address
    from tickcell.server.store.postgres.levels import Level

# Half of each page is left free, so that the next record fits beside the one it replaces and
# no index has to change. A record is not compressed: it would take longer than to write it.
_TABLES = """
CREATE SCHEMA tickcell;
CREATE TABLE tickcell.store (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  schema integer NOT NULL,
  id text NOT NULL,
  durability text NOT NULL,
  clock_ns bigint NOT NULL,
  checksum bigint NOT NULL,
  timeline bigint NOT NULL
);
CREATE TABLE tickcell.record (
  owner bytea NOT NULL,
  session bytea NOT NULL,
  is_live boolean NOT NULL,
  pin integer,
  value bytea NOT NULL,
  PRIMARY KEY (owner, session)
) WITH (fillfactor = 50);
ALTER TABLE tickcell.record ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE tickcell.pin (
  id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  model text NOT NULL,
  version text NOT NULL,
  fingerprint text NOT NULL,
  live bigint NOT NULL DEFAULT 0,
  UNIQUE (model, version, fingerprint)
);
CREATE TABLE tickcell.counts (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  live bigint NOT NULL,
  ended bigint NOT NULL
);
INSERT INTO tickcell.counts (live, ended) VALUES (0, 0);
CREATE TABLE tickcell.owner_counts (
  owner bytea PRIMARY KEY,
  live bigint NOT NULL,
  ended bigint NOT NULL
);
CREATE TABLE tickcell.server (
  id text PRIMARY KEY,
  renew_ns bigint NOT NULL,
  served text NOT NULL
);
"""

# Changes of lives, of which the counts are part. All locks are taken in one order: new pins,
# records by key, owners' counts by owner, counts by pin, the counts of all. So two servers
# never wait for each other.
_EXCHANGE = """
CREATE FUNCTION tickcell.exchange(
  owners bytea[], sessions bytea[], expecteds bytea[], replacements bytea[], lives boolean[],
  models text[], versions text[], fingerprints text[]
) RETURNS TABLE (place bigint, is_applied boolean, there bytea)
LANGUAGE plpgsql AS $$
DECLARE
  change record;
  old tickcell.record%ROWTYPE;
  old_pin integer;
  new_pin integer;
  total record;
  counted_owners bytea[] := '{}';
  counted_lives integer[] := '{}';
  counted_ends integer[] := '{}';
  counted_pins integer[] := '{}';
  pinned_lives integer[] := '{}';
BEGIN
  INSERT INTO tickcell.pin (model, version, fingerprint)
    SELECT DISTINCT c.model, c.version, c.fingerprint
      FROM unnest(models, versions, fingerprints) AS c (model, version, fingerprint)
      WHERE c.model IS NOT NULL AND NOT EXISTS (
        SELECT FROM tickcell.pin p WHERE (p.model, p.version, p.fingerprint)
          = (c.model, c.version, c.fingerprint))
      ORDER BY 1, 2, 3
    ON CONFLICT DO NOTHING;
  FOR change IN
    SELECT * FROM unnest(
      owners, sessions, expecteds, replacements, lives, models, versions, fingerprints
    ) WITH ORDINALITY AS c (
      owner, session, expected, replacement, is_live, model, version, fingerprint, place)
    ORDER BY owner, session
  LOOP
    place := change.place;
    is_applied := false;
    new_pin := NULL;
    IF change.model IS NOT NULL THEN
      SELECT p.id INTO new_pin FROM tickcell.pin p WHERE (p.model, p.version, p.fingerprint)
        = (change.model, change.version, change.fingerprint);
    END IF;
    LOOP
      SELECT * INTO old FROM tickcell.record r
        WHERE r.owner = change.owner AND r.session = change.session FOR UPDATE;
      there := old.value;
      EXIT WHEN FOUND OR change.expected IS NOT NULL OR change.replacement IS NULL;
      INSERT INTO tickcell.record VALUES
        (change.owner, change.session, change.is_live, new_pin, change.replacement)
        ON CONFLICT DO NOTHING;
      is_applied := FOUND;
      EXIT WHEN is_applied;
      -- Another writer was quicker; what it put there is to be seen now.
    END LOOP;
    old_pin := old.pin;
    IF NOT is_applied AND old.value IS NOT NULL AND old.value = change.expected THEN
      is_applied := true;
      new_pin := coalesce(new_pin, old_pin);
      IF change.replacement IS NULL THEN
        DELETE FROM tickcell.record r
          WHERE r.owner = change.owner AND r.session = change.session;
        new_pin := NULL;
      ELSE
        UPDATE tickcell.record r
          SET value = change.replacement, is_live = change.is_live, pin = new_pin
          WHERE r.owner = change.owner AND r.session = change.session;
      END IF;
    END IF;
    IF is_applied THEN
      there := NULL;
      counted_owners := array_append(counted_owners, change.owner);
      counted_lives := counted_lives
        || (CASE WHEN change.replacement IS NOT NULL AND change.is_live THEN 1 ELSE 0 END
        - CASE WHEN old.is_live THEN 1 ELSE 0 END);
      counted_ends := counted_ends
        || (CASE WHEN change.replacement IS NOT NULL AND NOT change.is_live THEN 1 ELSE 0 END
        - CASE WHEN NOT old.is_live THEN 1 ELSE 0 END);
      IF old.is_live THEN
        counted_pins := counted_pins || old_pin;
        pinned_lives := pinned_lives || -1;
      END IF;
      IF change.replacement IS NOT NULL AND change.is_live THEN
        counted_pins := counted_pins || new_pin;
        pinned_lives := pinned_lives || 1;
      END IF;
    END IF;
    RETURN NEXT;
  END LOOP;
  FOR total IN
    SELECT c.owner, sum(c.live) AS live, sum(c.ended) AS ended
      FROM unnest(counted_owners, counted_lives, counted_ends) AS c (owner, live, ended)
      GROUP BY c.owner HAVING sum(c.live) <> 0 OR sum(c.ended) <> 0 ORDER BY c.owner
  LOOP
    INSERT INTO tickcell.owner_counts AS o VALUES (total.owner, total.live, total.ended)
      ON CONFLICT (owner) DO UPDATE
      SET live = o.live + EXCLUDED.live, ended = o.ended + EXCLUDED.ended;
    DELETE FROM tickcell.owner_counts o
      WHERE o.owner = total.owner AND o.live = 0 AND o.ended = 0;
  END LOOP;
  FOR total IN
    SELECT c.pin, sum(c.live) AS live FROM unnest(counted_pins, pinned_lives) AS c (pin, live)
      WHERE c.pin IS NOT NULL GROUP BY c.pin HAVING sum(c.live) <> 0 ORDER BY c.pin
  LOOP
    UPDATE tickcell.pin p SET live = p.live + total.live WHERE p.id = total.pin;
  END LOOP;
  SELECT sum(c.live) AS live, sum(c.ended) AS ended INTO total
    FROM unnest(counted_lives, counted_ends) AS c (live, ended);
  IF total.live <> 0 OR total.ended <> 0 THEN
    UPDATE tickcell.counts SET live = counts.live + total.live, ended = counts.ended + total.ended;
  END IF;
END
$$;
"""

# Step by step from nothing to the schema of this release; what a step did, it does for ever.
STEPS = (_TABLES + _EXCHANGE,)

FIND = "SELECT schema FROM tickcell.store"

# Two who create or migrate at the same time go one after the other.
_ALONE = "LOCK TABLE tickcell.store IN ACCESS EXCLUSIVE MODE"


def version() -> int:
    """The schema of this release."""
    return len(STEPS)


async def find(connection: asyncpg.Connection[Any]) -> int:
    """Returns the version of the schema that is there; 0 for none."""
    try:
        found: int | None = await connection.fetchval(FIND)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return 0
    return found or 0


def require(address: Address, found: int) -> None:
    """Raises what to do about another schema than this release's.

    Raises:
      NoSchemaError, OlderSchemaError, NewerSchemaError: see each.
    """
    way_out = f"run 'tickcell store init {address}'"
    if found == 0:
        raise NoSchemaError(f"{address}: the database holds no store yet; {way_out}.")
    if found < version():
        raise OlderSchemaError(
            f"{address}: the store has schema {found}, expected {version()}; {way_out}, which "
            "migrates it."
        )
    if found > version():
        raise NewerSchemaError(
            f"{address}: the store has schema {found}, expected {version()}: a newer tickcell has "
            "migrated it; upgrade this one."
        )


async def init(
    address: Address, connection: asyncpg.Connection[Any], durability: Level | None
) -> tuple[int, Identity]:
    """Creates a store, or brings one up to this release's schema, in one transaction.

    Args:
      address: of the store, for what is said.
      connection: to its primary.
      durability: of a new store; None for "power-loss".

    Returns:
      The version of the schema that was there, 0 for none; and the store's identity.

    Raises:
      StoreStartError: it cannot be done; the class says why.
    """
    found = await find(connection)
    if found > version():
        require(address, found)
    try:
        async with connection.transaction():
            if found:
                await connection.execute(_ALONE)
                found = await find(connection)
            for step in STEPS[found:]:
                await connection.execute(step)
            if found:
                identity = await Identity.read(address, connection)
                if durability not in (None, identity.durability):
                    raise OtherDurabilityError(
                        f"{address}: has durability {identity.durability}, got {durability}; "
                        f"to change it, run 'tickcell store durability --store {address} "
                        f"{durability}'."
                    )
                await connection.execute("UPDATE tickcell.store SET schema = $1", version())
            else:
                identity = Identity(secrets.token_hex(16), durability or "power-loss", 0)
                await connection.execute(
                    "INSERT INTO tickcell.store (schema, id, durability, clock_ns, checksum, "
                    "timeline) VALUES ($1, '', '', 0, 0, 0)",
                    version(),
                )
                await write_identity(connection, identity)
    except asyncpg.InsufficientPrivilegeError as error:
        raise StorePermissionError(
            f"{address}: this user may not create the store ({refusals.words(error)}); let the "
            "owner of the database do it, or GRANT CREATE on it."
        ) from error
    except (asyncpg.DuplicateSchemaError, asyncpg.UniqueViolationError) as error:
        if found == 0 and not await find(connection):
            raise StoreStartError(
                f"{address}: has a schema 'tickcell' that is not a store's "
                f"({refusals.words(error)}); name another database."
            ) from error
        # Another one created it at the same moment.
        return await init(address, connection, durability)
    return found, identity
