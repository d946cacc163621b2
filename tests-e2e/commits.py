"""Our own record of who was held and who was claimed, written by the transactions themselves as they commit."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from .platform import Platform

# A deferred constraint trigger runs at the commit, while the transaction still has all its locks. A hold has its
# church's lock for itself, a claim shares it: of the two, the one that is written down later has begun to read after
# the other's commit. The function writes as its owner, whatever the role that commits.
_MAKE = """
CREATE SCHEMA commits;
CREATE TABLE commits.holds (
    church_id uuid NOT NULL,
    phone_index bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE TABLE commits.claims (
    church_id uuid NOT NULL,
    phone_index bytea NOT NULL,
    recipient_id uuid NOT NULL,
    source_id uuid NOT NULL,
    passes_suppression boolean NOT NULL,
    client_port integer DEFAULT inet_client_port(),  -- of the worker: the function runs in its session
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE FUNCTION commits.note_hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO commits.holds (church_id, phone_index) VALUES (NEW.church_id, NEW.phone_index);
    RETURN NULL;
END
$$;
CREATE FUNCTION commits.note_claim() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO commits.claims (church_id, phone_index, recipient_id, source_id, passes_suppression)
    VALUES (NEW.church_id, NEW.phone_index, NEW.recipient_id, NEW.source_id, NEW.passes_suppression);
    RETURN NULL;
END
$$;
"""
# One table in a transaction: claims read all of them, and must not wait in a circle with us. The answer to a text may
# come before the text, and then stands for its hold.
_LISTEN = (
    """
    CREATE CONSTRAINT TRIGGER commits AFTER INSERT ON delivery.holds
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.settled_at IS NULL) EXECUTE FUNCTION commits.note_hold()
    """,
    """
    CREATE CONSTRAINT TRIGGER commits AFTER INSERT OR UPDATE ON delivery.suppressions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.suppressed) EXECUTE FUNCTION commits.note_hold()
    """,
    """
    CREATE CONSTRAINT TRIGGER commits AFTER UPDATE ON delivery.work
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.state = 'sending' AND OLD.state <> 'sending') EXECUTE FUNCTION commits.note_claim()
    """,
)
_END = (
    "DROP TRIGGER IF EXISTS commits ON delivery.holds",
    "DROP TRIGGER IF EXISTS commits ON delivery.suppressions",
    "DROP TRIGGER IF EXISTS commits ON delivery.work",
    "DROP SCHEMA IF EXISTS commits CASCADE",
)


CLAIMS_AFTER_THEIR_HOLD = """
    SELECT claims.recipient_id, claims.at AS claimed_at, holds.at AS held_at, claims.transaction
    FROM commits.claims
    JOIN commits.holds USING (church_id, phone_index)
    WHERE church_id = $1 AND claims.at > holds.at AND NOT claims.passes_suppression
"""


class Commits:
    """Asks the record, and delivery's tables, of one church. Times are the database's."""

    def __init__(self, database: "asyncpg.Pool[asyncpg.Record]", church_id: UUID) -> None:
        self._database = database
        self._church_id = church_id

    @classmethod
    @asynccontextmanager
    async def noted(cls, platform: Platform, church_id: UUID) -> AsyncIterator["Commits"]:
        """Have every hold and every claim written down until the block ends."""
        url = platform.process("postgres").url
        async with asyncpg.create_pool(url, min_size=1, max_size=2) as database:
            await database.execute(_MAKE)
            try:
                for statement in _LISTEN:
                    await database.execute(statement)
                yield cls(database, church_id)
            finally:
                for statement in _END:
                    await database.execute(statement)

    async def recipients(self, message_id: UUID) -> dict[UUID, bytes]:
        """The phone index of each copy of a message."""
        rows = await self._fetch("SELECT id, phone_index FROM delivery.recipients WHERE source_id = $1", message_id)
        return {row["id"]: row["phone_index"] for row in rows}

    async def waiting(self, message_id: UUID) -> list[UUID]:
        """The copies that no worker has taken yet, in the order in which they will be."""
        rows = await self._fetch(
            """
            SELECT recipient_id
            FROM delivery.work
            WHERE source_id = $1 AND state = 'ready'
            ORDER BY due_at, recipient_id
            """,
            message_id,
        )
        return [row["recipient_id"] for row in rows]

    async def holds(self) -> dict[bytes, datetime]:
        """When each number was first held, or opted out."""
        rows = await self._fetch(
            "SELECT phone_index, min(at) AS at FROM commits.holds WHERE church_id = $1 GROUP BY phone_index",
            self._church_id,
        )
        return {row["phone_index"]: row["at"] for row in rows}

    async def claims(self, message_id: UUID) -> list[asyncpg.Record]:
        """Every claim of a message's copies (`recipient_id`, `phone_index`, `at`), in the order of their commits."""
        return await self._fetch(
            "SELECT recipient_id, phone_index, at FROM commits.claims WHERE source_id = $1 ORDER BY at", message_id
        )

    async def claims_after_their_hold(self) -> list[asyncpg.Record]:
        """Claims of held numbers that nothing allows: there must be none."""
        return await self._fetch(CLAIMS_AFTER_THEIR_HOLD, self._church_id)

    async def are_suppressed(self, phone_indexes: Collection[bytes]) -> bool:
        """Whether compliance's word on all of them has reached delivery."""
        (row,) = await self._fetch(
            """
            SELECT count(*) = $3 AS all
            FROM delivery.suppressions
            WHERE church_id = $1 AND phone_index = ANY ($2) AND suppressed
            """,
            self._church_id,
            list(phone_indexes),
            len(phone_indexes),
        )
        return bool(row["all"])

    async def now(self) -> datetime:
        """The database's time."""
        now: datetime = await self._database.fetchval("SELECT clock_timestamp()")
        return now

    async def has_heard_all_until(self, at: datetime) -> bool:
        """Whether delivery has applied what was in its hold queue by then: a marker from after it has come back."""
        return bool(await self._database.fetchval("SELECT marker_sent_at >= $1 FROM delivery.freshness", at))

    async def _fetch(self, sql: str, *values: Any) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await self._database.fetch(sql, *values)
        return found
