"""A message on its way to delivery: asked for, authorized, streamed page by page, counted, completed.

A lease is for one step, the question to billing or a page, and compared with Postgres' clock alone. The step gives it
back; one that fails does not, and the next attempt's lease is twice as long. Each write names the state that it leaves,
so that a repeat, a late answer or a second streamer changes nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from uuid import UUID

import asyncpg
import msgspec

from koinonia.db import Transaction, statement
from koinonia_messaging.domain.audience import Excluded, Page, Target, Text
from koinonia_messaging.domain.brake import Tally
from koinonia_messaging.domain.messages import STATUSES


class Broadcast(msgspec.Struct, frozen=True, kw_only=True):
    """A message as the loops see it."""

    id: UUID
    version: int
    text: Text
    media_urls: list[str]
    target: Target
    number_id: UUID | None
    authorized_bound: int
    streamed_bound: int
    streamed_recipients: int
    cursor: bytes
    dispatched_at: datetime | None
    do_not_send_after: datetime | None
    urgent: bool
    test: bool
    approved_people: int | None  # None: nobody has approved it
    resend_of: UUID | None  # it goes to those whom that one did not reach
    weekly_limit: int | None = None  # its church's, while it is streamed; None: none, or it is a test


class Place(msgspec.Struct, frozen=True):
    """A message and whose it is."""

    church_id: UUID
    message_id: UUID


class Work(msgspec.Struct, frozen=True):
    """A message that a loop has to do with, and the request that began it."""

    church_id: UUID
    message_id: UUID
    attempt: int
    correlation_id: str | None
    traceparent: str | None


class Finished(msgspec.Struct, frozen=True):
    """A message of which no row is open any more."""

    church_id: UUID
    message_id: UUID
    recipients: int
    test: bool


class Leases(msgspec.Struct, frozen=True, kw_only=True):
    """How long a message is left alone for one attempt: twice as long with each further one, up to a limit."""

    first_seconds: float
    longest_seconds: float


LEASE_SQL = """leased_until = clock_timestamp() + make_interval(secs => least($1 * 2 ^ least(attempt, 20), $2)),
        attempt = attempt + 1"""

_CLAIM_DUE = statement(
    "messages.claim_due",
    f"""
    UPDATE messages
    SET {LEASE_SQL}
    WHERE id IN (
        SELECT id
        FROM messages
        WHERE status IN ('accepted', 'scheduled') AND paused_at IS NULL AND NOT awaiting_answer AND NOT gathering
            AND due_at <= $3 AND leased_until < clock_timestamp()
        ORDER BY greatest(due_at, leased_until)
        LIMIT $4
        FOR UPDATE SKIP LOCKED
    )
    RETURNING id, church_id, attempt, correlation_id, traceparent
    """,
)


async def claim_due(tx: Transaction, leases: Leases, now: datetime, limit: int) -> list[Work]:
    """Lease messages whose time to be sent has come, those first that could be asked for longest; of all churches."""
    return [_work(row) for row in await tx.fetch(_CLAIM_DUE, leases.first_seconds, leases.longest_seconds, now, limit)]


_LOCK_DUE = statement(
    "messages.lock_due",
    """
    SELECT *
    FROM messages
    WHERE id = $1 AND status IN ('accepted', 'scheduled') AND paused_at IS NULL AND NOT awaiting_answer
        AND NOT gathering AND due_at <= $2
    FOR UPDATE SKIP LOCKED
    """,
)


async def lock_due(tx: Transaction, message_id: UUID, now: datetime) -> Broadcast | None:
    """Lock a due message; None when another replica has it or has asked already."""
    row = await tx.fetch_row(_LOCK_DUE, message_id, now)
    return None if row is None else _broadcast(row)


_ASK = statement(
    "messages.ask",
    """
    UPDATE messages
    SET version = version + 1,
        awaiting_answer = true,
        status = CASE status WHEN 'scheduled' THEN 'accepted' ELSE status END,
        segment_bound = $3,
        total_recipients = $4,
        leased_until = '-infinity',
        attempt = 0,
        revision = revision + 1
    WHERE id = $1 AND version = $2 AND NOT awaiting_answer AND status IN ('accepted', 'scheduled', 'sending')
    """,
)


async def ask(tx: Transaction, broadcast: Broadcast, *, segment_bound: int, recipients: int) -> bool:
    """Note that billing is asked with the next version; False when the message has moved on."""
    return await tx.execute(_ASK, broadcast.id, broadcast.version, segment_bound, recipients) > 0


_AUTHORIZE = statement(
    "messages.authorize",
    f"""
    WITH asked AS (
        SELECT id, day
        FROM messages
        WHERE id = $1 AND version = $2 AND awaiting_answer AND status IN ('accepted', 'sending')
        FOR UPDATE
    ), authorized AS (
        UPDATE messages
        SET status = 'sending',
            awaiting_answer = false,
            authorized_bound = greatest(authorized_bound, $3),
            dispatched_at = coalesce(dispatched_at, $4),
            day = coalesce(messages.day, $5),
            revision = revision + 1
        FROM asked
        WHERE messages.id = asked.id
        RETURNING messages.*, asked.day IS NULL AS begins
    ), noted AS (  -- with what was counted already, where code that knew no days let it begin
        INSERT INTO day_figures (church_id, day, messages, {", ".join(STATUSES)})
        SELECT church_id, day, 1, {", ".join(STATUSES)}
        FROM authorized
        WHERE begins AND NOT test
        ON CONFLICT (church_id, day) DO UPDATE
        SET messages = day_figures.messages + 1,
            {", ".join(f"{status} = day_figures.{status} + excluded.{status}" for status in STATUSES)}
    )
    SELECT count(*) FROM authorized
    """,
)


async def authorize(
    tx: Transaction, message_id: UUID, version: int, segment_bound: int, *, at: datetime, day: date
) -> bool:
    """Let a message be streamed up to the bound; False when this is no answer to its last question.

    ``day``: the church's, of ``at``; once its sending has begun, a message stays with its day.
    """
    return bool(await tx.fetch_value(_AUTHORIZE, message_id, version, segment_bound, at, day))


_DECLINE = statement(
    "messages.decline",
    """
    UPDATE messages
    SET status = CASE WHEN streamed_recipients = 0 THEN 'declined' ELSE status END,
        awaiting_answer = false,
        decline_reason = $3,
        resolved = true,
        total_recipients = streamed_recipients,
        revision = revision + 1
    WHERE id = $1 AND version = $2 AND awaiting_answer AND status IN ('accepted', 'sending')
    RETURNING status, streamed_recipients, dispatched_at, test
    """,
)


async def decline(tx: Transaction, message_id: UUID, version: int, reason: str) -> asyncpg.Record | None:
    """Stop a message: declined when nothing was streamed, else resolved with what was.

    Returns its status, recipients, time of dispatch and whether it is a test; None when this is no answer to its last
    question.
    """
    return await tx.fetch_row(_DECLINE, message_id, version, reason)


_CLAIM_STREAMING = statement(
    "messages.claim_streaming",
    f"""
    UPDATE messages
    SET {LEASE_SQL},
        page_at = clock_timestamp()
    WHERE id IN (
        SELECT id
        FROM messages
        WHERE status = 'sending' AND paused_at IS NULL AND NOT resolved AND NOT awaiting_answer
            AND leased_until < clock_timestamp()
        ORDER BY page_at
        LIMIT $3
        FOR UPDATE SKIP LOCKED
    )
    RETURNING id, church_id, attempt, correlation_id, traceparent
    """,
)


async def claim_streaming(tx: Transaction, leases: Leases, limit: int) -> list[Work]:
    """Lease messages for one page each, those first whose last page is longest ago; of all churches."""
    return [_work(row) for row in await tx.fetch(_CLAIM_STREAMING, leases.first_seconds, leases.longest_seconds, limit)]


_FIND_STREAMING = statement(
    "messages.find_streaming",
    """
    SELECT *, CASE WHEN NOT test THEN (SELECT weekly_limit FROM churches) END AS weekly_limit
    FROM messages
    WHERE id = $1 AND status = 'sending' AND paused_at IS NULL AND NOT resolved AND NOT awaiting_answer
    """,
)


async def find_streaming(tx: Transaction, message_id: UUID) -> Broadcast | None:
    """A message that is being streamed, not locked: the cursor is compared when it moves."""
    row = await tx.fetch_row(_FIND_STREAMING, message_id)
    return None if row is None else _broadcast(row)


_ADVANCE = statement(
    "messages.advance",
    """
    UPDATE messages
    SET cursor = $3,
        streamed_recipients = streamed_recipients + $4,
        streamed_bound = streamed_bound + $5,
        resolved = $6,
        total_recipients = CASE
            WHEN $6 THEN streamed_recipients + $4
            ELSE greatest(total_recipients, streamed_recipients + $4)
        END,
        leased_until = '-infinity',
        attempt = 0,
        revision = revision + 1
    WHERE id = $1 AND cursor = $2 AND status = 'sending' AND paused_at IS NULL AND NOT resolved
        AND NOT awaiting_answer
    """,
)


async def advance(tx: Transaction, broadcast: Broadcast, page: Page, *, is_last: bool) -> bool:
    """Move the cursor past a page and give the lease back; False when a streamer, a pause or a cancel was faster."""
    return (
        await tx.execute(
            _ADVANCE, broadcast.id, broadcast.cursor, page.cursor, len(page.recipients), page.segments, is_last
        )
        > 0
    )


_COUNT = statement(
    "messages.count_recipients",
    f"""
    WITH delta AS (
        SELECT *
        FROM unnest($1::uuid[], $2::uuid[], {", ".join(f"${place}::int[]" for place in range(3, 3 + len(STATUSES)))})
            AS delta (id, church_id, {", ".join(STATUSES)})
    ), locked AS (
        SELECT messages.id
        FROM messages
        JOIN delta ON delta.id = messages.id AND delta.church_id = messages.church_id
        ORDER BY messages.id
        FOR UPDATE OF messages
    ), counted AS (
        UPDATE messages
        SET {", ".join(f"{status} = messages.{status} + delta.{status}" for status in STATUSES)},
            revision = revision + 1
        FROM delta
        JOIN locked ON locked.id = delta.id
        WHERE messages.id = delta.id
        RETURNING
            messages.id, messages.church_id, messages.status, paused_at, resolved, messages.queued, messages.sent,
            messages.delivered, messages.undelivered, messages.unconfirmed, messages.failed, answers_seen,
            refusals_seen, receipts_seen, undelivered_seen, messages.day, messages.test
    ), noted AS (  -- the messages are locked, so that whoever comes to these rows takes them in one order
        INSERT INTO day_figures (church_id, day, {", ".join(STATUSES)})
        SELECT delta.church_id, day, {", ".join(f"sum(delta.{status})" for status in STATUSES)}
        FROM counted
        JOIN delta USING (id)
        WHERE day IS NOT NULL AND NOT test
        GROUP BY delta.church_id, day
        ORDER BY delta.church_id, day
        ON CONFLICT (church_id, day) DO UPDATE
        SET {", ".join(f"{status} = day_figures.{status} + excluded.{status}" for status in STATUSES)}
    )
    SELECT tallied.*
    FROM (
        SELECT
            id, church_id, sent + delivered + undelivered + unconfirmed + failed AS answers, failed AS refusals,
            delivered + undelivered + unconfirmed AS receipts, undelivered, answers_seen, refusals_seen, receipts_seen,
            undelivered_seen
        FROM counted
        WHERE status = 'sending' AND paused_at IS NULL AND (queued > 0 OR NOT resolved)
    ) AS tallied
    WHERE answers - answers_seen >= ${3 + len(STATUSES)} OR receipts - receipts_seen >= ${3 + len(STATUSES)}
    """,
)


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What the carrier has said of a message's texts, and had when its window began."""

    church_id: UUID
    message_id: UUID
    now: Tally
    window: Tally


async def count_recipients(tx: Transaction, changes: Mapping[Place, Mapping[str, int]], sample: int) -> list[Counted]:
    """Add differences to the counters of any number of messages.

    Answers those of which something still waits and at least ``sample`` answers or receipts have come in their window.
    """
    places = list(changes)
    rows = await tx.fetch(
        _COUNT,
        [place.message_id for place in places],
        [place.church_id for place in places],
        *([changes[place].get(status, 0) for place in places] for status in STATUSES),
        sample,
    )
    return [
        Counted(
            church_id=row["church_id"],
            message_id=row["id"],
            now=_tally(row, ""),
            window=_tally(row, "_seen"),
        )
        for row in rows
    ]


def _tally(row: asyncpg.Record, ending: str) -> Tally:
    names = ("answers", "refusals", "receipts", "undelivered")
    return Tally(**{name: row[name + ending] for name in names})


_FINISH = statement(
    "messages.finish",
    """
    WITH judged AS (
        SELECT
            id,
            queued = 0 AND sending = 0 AND unknown = 0 AND sent = 0 AS is_completed
        FROM messages
        WHERE id = ANY($1::uuid[]) AND resolved AND arrived = total_recipients AND completed_at IS NULL
            AND status IN ('sending', 'handed_over', 'cancelled')
            AND queued = 0 AND sending = 0 AND unknown = 0
            AND (sent = 0 OR status = 'sending')
        ORDER BY id
        FOR UPDATE
    )
    UPDATE messages
    SET status = CASE
            WHEN status = 'cancelled' THEN status
            WHEN is_completed THEN 'completed'
            ELSE 'handed_over'
        END,
        handed_over_at = coalesce(handed_over_at, CASE WHEN status <> 'cancelled' THEN $2::timestamptz END),
        completed_at = CASE WHEN is_completed THEN $2::timestamptz END,
        revision = revision + 1
    FROM judged
    WHERE messages.id = judged.id
    RETURNING messages.id, church_id, total_recipients, is_completed, test
    """,
)


async def finish(tx: Transaction, message_ids: Sequence[UUID], at: datetime) -> list[Finished]:
    """Hand over and complete those messages whose rows all arrived and say so; each completed one is told once."""
    return [
        Finished(row["church_id"], row["id"], row["total_recipients"], row["test"])
        for row in await tx.fetch(_FINISH, message_ids, at)
        if row["is_completed"]
    ]


def _work(row: asyncpg.Record) -> Work:
    return Work(row["church_id"], row["id"], row["attempt"], row["correlation_id"], row["traceparent"])


def target_of(row: asyncpg.Record) -> Target:
    """Whom a message's row is for."""
    excluded = Excluded(
        tuple(row["excluded_member_ids"]), tuple(row["excluded_group_ids"]), tuple(row["excluded_branch_ids"])
    )
    if row["resend_of"] is not None:
        return Target("not_reached", (row["id"],), excluded)
    return Target(row["target_type"], tuple(row["target_ids"]), excluded)


def text_of(row: asyncpg.Record) -> Text:
    """What a row of messages sends."""
    return Text(row["content"], bool(row["media_urls"]), row["smart_encoding"])


def _broadcast(row: asyncpg.Record) -> Broadcast:
    return Broadcast(
        id=row["id"],
        version=row["version"],
        text=text_of(row),
        media_urls=row["media_urls"],
        target=target_of(row),
        number_id=row["number_id"],
        authorized_bound=row["authorized_bound"],
        streamed_bound=row["streamed_bound"],
        streamed_recipients=row["streamed_recipients"],
        cursor=row["cursor"],
        dispatched_at=row["dispatched_at"],
        do_not_send_after=row["do_not_send_after"],
        urgent=row["urgent_reason"] is not None,
        test=row["test"],
        approved_people=row["approved_people"],
        resend_of=row["resend_of"],
        weekly_limit=row.get("weekly_limit"),
    )
