"""What Postgres knows, read as its administrator: a church's rows in one snapshot, and what the platform left lying."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from koinonia.db.roles import SERVICES

OPEN = frozenset({"queued", "sending", "sent", "unknown"})
Attempt = tuple[UUID, int]
"""A recipient and its attempt's number."""
PATIENCE_SECONDS = 60.0
_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the connection ended in the middle of an exchange
    OSError,
    TimeoutError,
)


class Row(msgspec.Struct, frozen=True):
    """A recipient's copy."""

    id: UUID
    source_id: UUID
    kind: str
    status: str
    segments: int
    attempt: int
    carrier_id: str | None
    accepted_at: datetime | None
    phone_ciphertext: bytes
    work_state: str | None  # of its row in the work table; None: nothing is to be done


class Reservation(msgspec.Struct, frozen=True):
    """What a broadcast may use."""

    message_id: UUID
    status: str
    segment_bound: int
    used_segments: int


class Message(msgspec.Struct, frozen=True):
    """A broadcast as messaging has it; ``counts`` without zeros."""

    id: UUID
    status: str
    content: str
    total_recipients: int
    counts: dict[str, int]


class Figure(msgspec.Struct, frozen=True):
    """A number of the dashboards, days and branches that is not what the rows come to."""

    of: str  # a day, or a branch
    name: str
    kept: int
    counted: int


class Books(msgspec.Struct, frozen=True):
    """A church's rows at one moment."""

    rows: list[Row]
    messages: list[Message]
    reservations: list[Reservation]
    used_segments: int
    reserved_segments: int
    ledger_segments: int
    ledger_recipients: int
    open_holds: int
    wrong_figures: Sequence[Figure] = ()

    def of(self, message_id: UUID) -> list[Row]:
        """The rows of a broadcast."""
        return [row for row in self.rows if row.source_id == message_id]


class Session(msgspec.Struct, frozen=True):
    """A connection of the platform's, as Postgres sees it."""

    application_name: str
    client_port: int
    transaction_seconds: float | None  # since it began; None: none is open
    query: str

    @property
    def relays(self) -> bool:
        """Whether it is a relay that holds rows of an outbox and waits for the broker."""
        return self.transaction_seconds is not None and "FROM outbox" in self.query and "SKIP LOCKED" in self.query


_STATUSES = (
    "queued", "sending", "sent", "unknown", "delivered", "undelivered", "unconfirmed", "failed", "suppressed",
    "cancelled", "expired",
)  # fmt: skip
_ROWS = """
    SELECT
        recipients.id, recipients.source_id, recipients.kind, recipients.status, recipients.segments,
        recipients.attempt, recipients.carrier_id, recipients.accepted_at, recipients.phone_ciphertext,
        work.state AS work_state
    FROM delivery.recipients
    LEFT JOIN delivery.work ON work.recipient_id = recipients.id
    WHERE recipients.church_id = $1
"""
_MESSAGES = "SELECT * FROM messaging.messages WHERE church_id = $1"
_RESERVATIONS = """
    SELECT message_id, status, segment_bound, used_segments FROM billing.reservations WHERE church_id = $1
"""
_BILL = """
    SELECT
        used_segments, reserved_segments,
        (SELECT coalesce(sum(segments), 0) FROM billing.usage_ledger WHERE church_id = $1)::int AS ledger_segments,
        (SELECT coalesce(sum(recipients), 0) FROM billing.usage_ledger WHERE church_id = $1)::int AS ledger_recipients,
        (SELECT count(*) FROM delivery.holds WHERE church_id = $1 AND settled_at IS NULL)::int AS open_holds
    FROM billing.subscriptions
    WHERE church_id = $1
"""
_FIGURES = """
    WITH copy AS (
        SELECT
            source_id, branch_id, day,
            CASE recipients.status WHEN 'sending' THEN 'queued' ELSE recipients.status END AS status
        FROM delivery.recipients
        JOIN messaging.messages ON messages.id = source_id
        WHERE recipients.church_id = $1 AND NOT messages.test
    ), person AS (
        SELECT branch_id, opted_in AND NOT EXISTS (
            SELECT
            FROM messaging.suppressions
            WHERE suppressions.church_id = members.church_id AND suppressions.phone_index = members.phone_index
                AND suppressed
        ) AS may_be_texted
        FROM messaging.members
        WHERE church_id = $1 AND deleted_at IS NULL
    ), counted AS (
        SELECT 'day ' || day AS of, status AS name, count(*) AS number FROM copy GROUP BY 1, 2
        UNION ALL
        SELECT coalesce('branch ' || branch_id, 'no branch'), status, count(*) FROM copy GROUP BY 1, 2
        UNION ALL
        SELECT 'day ' || day, 'messages', count(*)
        FROM messaging.messages
        WHERE church_id = $1 AND dispatched_at IS NOT NULL AND NOT test
        GROUP BY 1
        UNION ALL
        SELECT 'branch ' || branch_id, 'messages', count(DISTINCT source_id) FROM copy GROUP BY 1
        UNION ALL
        SELECT 'branch ' || branch_id, 'members', count(*) FROM person GROUP BY 1
        UNION ALL
        SELECT 'branch ' || branch_id, 'opted_in', count(*) FROM person WHERE may_be_texted GROUP BY 1
    ), line AS (
        SELECT 'day ' || day AS of, to_jsonb(day_figures) - '{church_id,day}'::text[] AS figures
        FROM messaging.day_figures
        WHERE church_id = $1
        UNION ALL
        SELECT 'branch ' || branch_id, to_jsonb(branch_figures) - '{church_id,branch_id}'::text[]
        FROM messaging.branch_figures
        WHERE church_id = $1
        UNION ALL
        SELECT 'branch ' || branch_id, to_jsonb(branch_people) - '{church_id,branch_id}'::text[]
        FROM messaging.branch_people
        WHERE church_id = $1
    ), kept AS (
        SELECT of, key AS name, value::int AS number FROM line CROSS JOIN jsonb_each_text(figures) WHERE value <> '0'
    )
    SELECT of, name, coalesce(kept.number, 0) AS kept, coalesce(counted.number, 0) AS counted
    FROM counted
    FULL JOIN kept USING (of, name)
    WHERE coalesce(kept.number, 0) <> coalesce(counted.number, 0)
    ORDER BY of, name
"""
_STANDING = "SELECT status, count(*)::int FROM delivery.recipients WHERE church_id = $1 GROUP BY status"
_SESSIONS = """
    SELECT
        application_name, client_port, query,
        CASE WHEN state = 'idle in transaction' OR (state = 'active' AND xact_start IS NOT NULL)
            THEN extract(epoch FROM clock_timestamp() - xact_start)::float8
        END AS transaction_seconds
    FROM pg_stat_activity
    WHERE application_name LIKE 'koinonia-%' AND client_port > 0
"""
_ADVISORY_LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
# By its column a table says that its rows are leased; an e-mail is while it is being sent, until it is due again.
_LEASED_TABLES = """
    SELECT format('%I.%I', namespace.nspname, class.relname) AS name
    FROM pg_attribute AS attribute
    JOIN pg_class AS class ON class.oid = attribute.attrelid
    JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
    WHERE attribute.attname = 'leased_until' AND NOT attribute.attisdropped
        AND class.relkind IN ('r', 'p') AND NOT class.relispartition
        AND namespace.nspname = ANY ($1)
"""
_LEASED = "SELECT count(*) FROM {} WHERE leased_until > '-infinity'"
_EMAILS_IN_HAND = "SELECT count(*) FROM delivery.emails WHERE status = 'sending'"
_HELD = "SELECT phone_index FROM delivery.holds WHERE church_id = $1"
_LEASES_ENDED = (
    "SELECT recipient_id, attempt FROM delivery.work WHERE state = 'sending' AND leased_until < clock_timestamp()"
)
_BEGUN = "SELECT count(*) FROM delivery.recipients WHERE source_id = $1 AND status <> 'queued'"
_TAKEN = "SELECT count(*) FROM delivery.inbox WHERE queue = 'delivery.chunks' AND event_id = ANY($1::uuid[])"
_WAITING = """
    SELECT recipients.phone_ciphertext
    FROM delivery.work
    JOIN delivery.recipients ON recipients.id = work.recipient_id
    WHERE work.source_id = $1 AND work.state = 'ready'
    ORDER BY work.due_at DESC, work.recipient_id DESC
    LIMIT 100
"""
_IN_HANDS = """
    SELECT work.recipient_id, work.attempt
    FROM delivery.work
    JOIN LATERAL (
        SELECT claims.client_port
        FROM commits.claims
        WHERE claims.recipient_id = work.recipient_id
        ORDER BY claims.at DESC
        LIMIT 1
    ) AS last_claim ON last_claim.client_port = ANY ($2::int[])
    WHERE work.church_id = $1 AND work.state = 'sending'
"""


class Reader:
    """Asks Postgres, and waits while it is away."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._connection: asyncpg.Connection[Any] | None = None
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def fetch(self, query: str, *values: object) -> list[asyncpg.Record]:
        """One query's rows."""
        return (await self._read([(query, values)]))[0]

    async def count(self, query: str, *values: object) -> int:
        """A query's one number."""
        return int((await self.fetch(query, *values))[0][0])

    async def books(self, church_id: UUID) -> Books:
        """All of a church's rows in one snapshot."""
        queries = (_ROWS, _MESSAGES, _RESERVATIONS, _FIGURES, _BILL)
        rows, messages, reservations, figures, (bill,) = await self._read([(query, (church_id,)) for query in queries])
        return Books(
            rows=msgspec.convert([dict(row) for row in rows], list[Row]),
            messages=[_message(row) for row in messages],
            reservations=msgspec.convert([dict(row) for row in reservations], list[Reservation]),
            wrong_figures=msgspec.convert([dict(row) for row in figures], list[Figure]),
            **dict(bill),
        )

    async def standing(self, church_id: UUID) -> Counter[str]:
        """How many recipients have which status."""
        return Counter({row["status"]: row["count"] for row in await self.fetch(_STANDING, church_id)})

    async def begun(self, message_id: UUID) -> int:
        """How many recipients of a broadcast workers have had in their hands."""
        return await self.count(_BEGUN, message_id)

    async def inbox_rows(self, event_ids: Sequence[UUID]) -> int:
        """How many of these events delivery has taken."""
        return await self.count(_TAKEN, list(event_ids))

    async def in_hands(self, church_id: UUID, ports: Collection[int]) -> set[Attempt]:
        """What the worker holds whose connections to Postgres have these ports."""
        return {(row["recipient_id"], row["attempt"]) for row in await self.fetch(_IN_HANDS, church_id, list(ports))}

    async def ended_leases(self) -> set[Attempt]:
        """Whose leases have ended, which nobody has noticed yet."""
        return {(row["recipient_id"], row["attempt"]) for row in await self.fetch(_LEASES_ENDED)}

    async def held_phones(self, church_id: UUID) -> set[bytes]:
        """Whose opt-outs delivery has heard."""
        return {row["phone_index"] for row in await self.fetch(_HELD, church_id)}

    async def waiting_phones(self, message_id: UUID) -> list[bytes]:
        """The ciphertexts of those whose text of a broadcast will be taken last."""
        return [row["phone_ciphertext"] for row in await self.fetch(_WAITING, message_id)]

    async def locked_outbox_ids(self, service: str) -> set[UUID]:
        """The rows of an outbox that a relay holds at this moment."""
        # The two are read under one snapshot; only locking passes over what is held.
        every, free = f"SELECT id FROM {service}.outbox", f"SELECT id FROM {service}.outbox FOR UPDATE SKIP LOCKED"
        found, unlocked = await self._read([(every, ()), (free, ())], isolation="repeatable_read", readonly=False)
        return {row["id"] for row in found} - {row["id"] for row in unlocked}

    async def waiting(self) -> dict[str, int]:
        """What waits in outboxes, for a fact, or for its row; without zeros."""
        tables = [f"{service}.{table}" for service in SERVICES for table in ("outbox", "parked")]
        tables.append("delivery.parked_receipts")
        counts = await self._read([(f"SELECT count(*) FROM {table}", ()) for table in tables])
        return {table: found[0][0] for table, found in zip(tables, counts, strict=True) if found[0][0]}

    async def sessions(self) -> list[Session]:
        """The platform's connections."""
        return msgspec.convert([dict(row) for row in await self.fetch(_SESSIONS)], list[Session])

    async def advisory_locks(self) -> int:
        """How many advisory locks anybody holds or waits for."""
        return await self.count(_ADVISORY_LOCKS)

    async def leases(self) -> dict[str, int]:
        """How many rows of which tables somebody has leased and not given back, ended leases among them."""
        tables = [row["name"] for row in await self.fetch(_LEASED_TABLES, list(SERVICES))]
        queries = {table: _LEASED.format(table) for table in tables} | {"delivery.emails": _EMAILS_IN_HAND}
        counts = await self._read([(query, ()) for query in queries.values()])
        return {table: found[0][0] for table, found in zip(queries, counts, strict=True) if found[0][0]}

    async def _read(
        self,
        queries: list[tuple[str, tuple[object, ...]]],
        *,
        isolation: Any = "repeatable_read",
        readonly: bool = True,
    ) -> list[list[asyncpg.Record]]:
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        async with self._turn:
            while True:
                try:
                    connection = await self._connect()
                    async with connection.transaction(isolation=isolation, readonly=readonly):
                        return [await connection.fetch(query, *values) for query, values in queries]
                except _AWAY:
                    await self.close()
                    if asyncio.get_running_loop().time() > deadline:
                        raise
                    await asyncio.sleep(0.05)
                except asyncpg.SerializationError:
                    await asyncio.sleep(0.01)  # somebody deleted what was to be locked: the next snapshot is without it

    async def _connect(self) -> "asyncpg.Connection[Any]":
        if self._connection is None or self._connection.is_closed():
            with suppress(KeyError):
                self._connection = await asyncpg.connect(self._url(), timeout=5, command_timeout=30)
        if self._connection is None:
            raise ConnectionError("postgres is not listed")
        return self._connection


def _message(row: asyncpg.Record) -> Message:
    counts = {status: row[status] for status in _STATUSES if row[status]}
    return Message(row["id"], row["status"], row["content"], row["total_recipients"], counts)
