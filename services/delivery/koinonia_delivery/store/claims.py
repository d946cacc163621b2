"""Claiming: the statements of one transaction; ``koinonia_delivery.claims`` has the reasons for their order."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from koinonia.db import Transaction, statement
from koinonia.quiet_hours import QuietTime
from koinonia_delivery.domain.choosing import HORIZON_SECONDS, Candidate, Choice, Clock
from koinonia_delivery.domain.priorities import BROADCAST, IN_TURN
from koinonia_delivery.domain.states import Change
from koinonia_delivery.store.lanes import hours_of

FRESH_SECONDS = 15.0
"""How old our knowledge of opt-outs may be."""
REPEAT_HOURS = 23.0
"""How long after its first attempt a text is sent again under its key, which the carrier keeps for 24 hours."""

OBSTACLES_ROOM = 10
"""How many more a claim looks at than a number can send: something may stand in the way of some."""

_IS_FRESH = statement(
    "freshness.check",
    """
    SELECT
        marker_sent_at > clock_timestamp() - make_interval(secs => $1)
        AND (backlog_oldest_at IS NULL OR backlog_oldest_at > clock_timestamp() - make_interval(secs => $1))
    FROM freshness
    """,
)


async def is_fresh(tx: Transaction) -> bool:
    """Whether no opt-out can be unknown to us for longer than ``FRESH_SECONDS``; the claim itself asks so again."""
    return bool(await tx.fetch_value(_IS_FRESH, FRESH_SECONDS))


# Urgent lanes, and those that wait longest. What another claim has locked, or who is waking a lane, is passed over. The
# churches' advisory locks are taken in their order, by the outer query. The hours stand in the rows that are locked, so
# that they are those of now: by older ones, a lane whose hours were just switched off would sleep until their end.
_LOCK_LANES = statement(
    "claims.lock_lanes",
    """
    WITH fresh AS MATERIALIZED (
        SELECT
        FROM freshness
        WHERE marker_sent_at > clock_timestamp() - make_interval(secs => $2)
            AND (backlog_oldest_at IS NULL OR backlog_oldest_at > clock_timestamp() - make_interval(secs => $2))
    ),
    urgent AS MATERIALIZED (
        SELECT lanes.church_id, lanes.wake_at, lanes.quiet_timezone, lanes.quiet_from, lanes.quiet_until
        FROM lanes
        WHERE lanes.urgent_at <= statement_timestamp() AND EXISTS (SELECT FROM fresh)
        ORDER BY lanes.urgent_at
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    ),
    awake AS MATERIALIZED (
        SELECT lanes.church_id, lanes.wake_at, lanes.quiet_timezone, lanes.quiet_from, lanes.quiet_until
        FROM lanes
        WHERE lanes.wake_at <= statement_timestamp() AND EXISTS (SELECT FROM fresh)
        ORDER BY lanes.wake_at
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    )
    SELECT
        lane.*, clock_timestamp() AS now,
        pg_advisory_xact_lock_shared(hashtextextended('delivery.church.' || lane.church_id, 0))
    FROM (
        SELECT * FROM urgent
        UNION
        SELECT * FROM awake
        ORDER BY church_id
    ) AS lane
    """,
)


async def lock_lanes(tx: Transaction, limit: int) -> dict[UUID, QuietTime | None]:
    """Lock the lanes of churches that have something to send, the longest waiting first; none while our knowledge is
    stale. Up to ``limit`` of those with urgent texts, and as many of all. With each, its quiet time of now or the next.

    Holds of these churches are kept waiting until this transaction ends, and those that are being stored are waited
    for: the next statement takes its snapshot after that, so that it sees every hold that was stored.
    """
    rows = await tx.fetch(_LOCK_LANES, limit, FRESH_SECONDS)
    lanes: dict[UUID, QuietTime | None] = {}
    for row in sorted(rows, key=lambda row: (row["wake_at"], row["church_id"])):
        hours = hours_of(row)
        lanes[row["church_id"]] = None if hours is None else hours.next(row["now"])
    return lanes


_NEXT_WAKE = statement(
    "claims.next_wake",
    """
    SELECT extract(epoch FROM lanes.wake_at - clock_timestamp())::float8
    FROM lanes
    WHERE lanes.wake_at IS NOT NULL
        AND EXISTS (
            SELECT
            FROM freshness
            WHERE marker_sent_at > clock_timestamp() - make_interval(secs => $1)
                AND (backlog_oldest_at IS NULL OR backlog_oldest_at > clock_timestamp() - make_interval(secs => $1))
        )
    ORDER BY lanes.wake_at
    LIMIT 1
    """,
)


async def next_wake_seconds(tx: Transaction) -> float | None:
    """When the next lane wakes; below 0: one is awake, and locked by another. None: nothing waits, or may go."""
    found: float | None = await tx.fetch_value(_NEXT_WAKE, FRESH_SECONDS)
    return found


# Of a person's copy, ``task``, in a query that knows its ``broadcasts``: tests are judged by the same.
# A phone is withdrawn when members are known to have it and none of them consents; only broadcasts need consent.
IS_SUPPRESSED = """EXISTS (
        SELECT
        FROM suppressions
        WHERE suppressions.church_id = task.church_id
            AND suppressions.phone_index = task.phone_index
            AND suppressions.suppressed
    )"""
IS_WITHDRAWN = """broadcasts.message_id IS NOT NULL
        AND (
            SELECT NOT bool_or(consents.consents)
            FROM consents
            WHERE consents.church_id = task.church_id AND consents.phone_index = task.phone_index
        )"""
IS_HELD = """EXISTS (
        SELECT
        FROM holds
        WHERE holds.church_id = task.church_id
            AND holds.phone_index = task.phone_index
            AND holds.settled_at IS NULL
    )"""

# Per number and priority, texts in the order of their acceptance, no more than the number can send within the horizon.
# "following" is when the next one after them is due: the n-th, if n were locked. Where others have some of them locked,
# or where the room is used up, it lies in the past, so that the lane does not go to sleep over them; in quiet hours it
# is their end. Who has a text of a broadcast sent again by itself waits for it: it goes in quiet hours, too.
_PICK = statement(
    "claims.pick",
    f"""
    WITH moment AS MATERIALIZED (
        SELECT clock_timestamp() AS now
    ),
    quiet AS MATERIALIZED (
        SELECT quiet.church_id, quiet.ends_at
        FROM unnest($7::uuid[], $8::timestamptz[], $9::timestamptz[]) AS quiet (church_id, begins_at, ends_at)
        CROSS JOIN moment
        WHERE quiet.begins_at <= moment.now AND moment.now < quiet.ends_at
    ),
    clock AS MATERIALIZED (
        SELECT
            numbers.id, numbers.church_id, numbers.next_free_at, numbers.segments_per_second, numbers.phone,
            numbers.messaging_profile_id, class.priority, quiet.ends_at AS rests_until,
            CASE
                WHEN quiet.ends_at IS NOT NULL THEN 0
                WHEN numbers.next_free_at > moment.now + make_interval(secs => $3) THEN 0
                ELSE least($2, ceil($3 * numbers.segments_per_second) + $4)::bigint
            END AS room
        FROM numbers
        CROSS JOIN unnest($10::smallint[]) AS class (priority)
        CROSS JOIN moment
        LEFT JOIN quiet ON quiet.church_id = numbers.church_id AND class.priority = $11
        WHERE numbers.church_id = ANY ($1::uuid[]) AND numbers.status = 'active'
    ),
    task AS MATERIALIZED (
        SELECT task.*
        FROM clock
        CROSS JOIN LATERAL (
            SELECT work.*
            FROM work
            WHERE work.number_id = clock.id
                AND work.priority = clock.priority
                AND (work.state = 'ready' OR (work.state = 'unknown' AND work.resend))
                AND (
                    work.state = 'ready'
                    OR ($6 AND work.group_started_at > (SELECT moment.now FROM moment) - make_interval(hours => $5))
                )
                AND work.due_at <= (SELECT moment.now FROM moment)
            ORDER BY work.due_at, work.recipient_id
            LIMIT clock.room
            FOR UPDATE SKIP LOCKED
        ) AS task
        WHERE clock.room > 0
    ),
    taken AS MATERIALIZED (
        SELECT task.number_id, task.priority, count(*) AS rows FROM task GROUP BY task.number_id, task.priority
    ),
    following AS MATERIALIZED (
        SELECT
            clock.id, clock.priority,
            (
                SELECT greatest(work.due_at, clock.rests_until)
                FROM work
                WHERE work.number_id = clock.id
                    AND work.priority = clock.priority
                    AND (work.state = 'ready' OR (work.state = 'unknown' AND work.resend))
                    AND (
                        work.state = 'ready'
                        OR work.group_started_at > (SELECT moment.now FROM moment) - make_interval(hours => $5)
                    )
                ORDER BY work.due_at, work.recipient_id
                OFFSET CASE WHEN taken.rows < clock.room THEN taken.rows ELSE 0 END
                LIMIT 1
            ) AS due_at
        FROM clock
        LEFT JOIN taken ON taken.number_id = clock.id AND taken.priority = clock.priority
    )
    SELECT
        moment.now, clock.id AS number_id, clock.church_id, clock.next_free_at, clock.segments_per_second, clock.phone,
        clock.messaging_profile_id, clock.priority, following.due_at AS following_at,
        task.recipient_id, task.phone_index, task.due_at, task.segments, task.traceparent,
        task.state = 'unknown' AS is_repeat,
        CASE
            WHEN broadcasts.cancelled_at IS NOT NULL THEN 'cancelled'
            WHEN task.do_not_send_after < moment.now THEN 'expired'
            -- One that a person sends again by itself, before broadcasts, goes all the same.
            WHEN task.priority <> 0 AND broadcasts.paused_at IS NOT NULL THEN 'paused'
            WHEN task.passes_suppression THEN NULL
            WHEN {IS_SUPPRESSED} THEN 'suppressed'
            WHEN {IS_WITHDRAWN} THEN 'withdrawn'
            WHEN {IS_HELD} THEN 'held'
            ELSE (
                SELECT CASE WHEN bool_or(earlier.state = 'sending') THEN 'busy' ELSE 'held' END
                FROM work AS earlier
                WHERE earlier.church_id = task.church_id
                    AND earlier.phone_index = task.phone_index
                    AND (earlier.state = 'sending' OR earlier.is_held)
                    AND (earlier.state = 'sending' OR NOT task.is_held)
                HAVING count(*) > 0
            )
        END AS obstacle
    FROM moment
    LEFT JOIN clock ON true
    LEFT JOIN following ON following.id = clock.id AND following.priority = clock.priority
    LEFT JOIN task ON task.number_id = clock.id AND task.priority = clock.priority
    LEFT JOIN broadcasts ON broadcasts.message_id = task.source_id
    """,
)


class Picked(msgspec.Struct, frozen=True, kw_only=True):
    """What the locked lanes hold, at a time by the database's clock, read after the locks."""

    now: datetime
    clocks: dict[UUID, Clock]
    candidates: list[Candidate]


async def pick(tx: Transaction, lanes: Mapping[UUID, QuietTime | None], per_number: int, *, resend: bool) -> Picked:
    """The clocks of these churches and what they may send next, locked, with what stands in its way.

    ``lanes``: the churches, with their quiet times, in which broadcasts that are not urgent have no room.
    ``per_number``: how many of a number at most, of each priority; ``resend``: unknown ones too, since the carrier
    honours keys.
    """
    quiet = {church_id: time for church_id, time in lanes.items() if time is not None}
    rows = await tx.fetch(
        _PICK,
        list(lanes),
        per_number,
        HORIZON_SECONDS,
        OBSTACLES_ROOM,
        int(REPEAT_HOURS),
        resend,
        list(quiet),
        [time.begins_at for time in quiet.values()],
        [time.ends_at for time in quiet.values()],
        IN_TURN,
        BROADCAST,
    )
    following = {(row["number_id"], row["priority"]): row["following_at"] for row in rows}
    clocks = {
        row["number_id"]: Clock(
            number_id=row["number_id"],
            church_id=row["church_id"],
            next_free_at=row["next_free_at"],
            segments_per_second=row["segments_per_second"],
            sender=row["phone"],
            messaging_profile_id=row["messaging_profile_id"],
            following_at={priority: following[row["number_id"], priority] for priority in IN_TURN},
        )
        for row in {row["number_id"]: row for row in rows if row["number_id"] is not None}.values()
    }
    candidates = [
        Candidate(
            recipient_id=row["recipient_id"],
            church_id=row["church_id"],
            number_id=row["number_id"],
            phone_index=row["phone_index"],
            priority=row["priority"],
            due_at=row["due_at"],
            segments=row["segments"],
            is_repeat=row["is_repeat"],
            traceparent=row["traceparent"],
            obstacle=row["obstacle"],
        )
        for row in rows
        if row["recipient_id"] is not None
    ]
    return Picked(now=rows[0]["now"], clocks=clocks, candidates=candidates)


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient that is this worker's until its lease ends, with all that the call is made of."""

    recipient_id: UUID
    church_id: UUID
    source_id: UUID
    number_id: UUID
    attempt: int
    group_started_at: datetime
    phone_ciphertext: bytes
    sender: str
    messaging_profile_id: str | None
    text: str
    media_urls: tuple[str, ...]
    webhook_url: str
    traceparent: str | None
    correlation_id: str | None


_TAKE = statement(
    "claims.take",
    """
    WITH taken AS MATERIALIZED (
        SELECT taken.*
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS taken (id, sender, profile, webhook_url)
    ),
    leased AS (
        UPDATE work
        SET state = 'sending', attempt = work.attempt + 1, is_held = false,
            leased_until = $5::timestamptz + make_interval(secs => $6),
            group_started_at = coalesce(work.group_started_at, $5),
            claimed_at = $5,
            sender = coalesce(work.sender, taken.sender),
            messaging_profile_id = coalesce(work.messaging_profile_id, taken.profile),
            webhook_url = coalesce(work.webhook_url, taken.webhook_url)
        FROM taken
        WHERE work.recipient_id = taken.id
        RETURNING work.*
    ),
    clock AS (
        UPDATE numbers
        SET next_free_at = greatest(numbers.next_free_at, clock.next_free_at),  -- it may have been paused meanwhile
            segments_taken = numbers.segments_taken
                + (SELECT coalesce(sum(leased.segments), 0) FROM leased WHERE leased.number_id = numbers.id)
        FROM unnest($7::uuid[], $8::timestamptz[]) AS clock (number_id, next_free_at)
        WHERE numbers.id = clock.number_id
    ),
    lane AS (
        UPDATE lanes
        SET wake_at = lane.wake_at, urgent_at = lane.urgent_at
        FROM unnest($9::uuid[], $10::timestamptz[], $11::timestamptz[]) AS lane (church_id, wake_at, urgent_at)
        WHERE lanes.church_id = lane.church_id
    ),
    begun AS (
        UPDATE recipients
        SET status = CASE recipients.status WHEN 'queued' THEN 'sending' ELSE recipients.status END,
            attempt = leased.attempt,
            -- Only one that a person sends again has these, of its first copy; the second is metered too.
            accepted_at = NULL, sent_at = NULL, carrier_id = NULL
        FROM leased
        WHERE recipients.id = leased.recipient_id
            AND recipients.status IN ('queued', 'unknown')
        RETURNING
            recipients.id, recipients.church_id, recipients.source_id, leased.number_id, leased.attempt,
            leased.group_started_at, recipients.phone_ciphertext, leased.sender, leased.messaging_profile_id,
            recipients.text, recipients.media_urls, leased.webhook_url, leased.traceparent,
            leased.correlation_id
    )
    SELECT * FROM begun
    """,
)


async def take(
    tx: Transaction,
    chosen: Sequence[tuple[Candidate, Clock, str]],
    choice: Choice,
    now: datetime,
    lease_seconds: float,
) -> list[Claimed]:
    """Make the chosen ones ``sending``, fix their bodies, advance the clocks, and let the lanes sleep until they wake.

    Each of the chosen comes with its webhook URL. One that is unknown stays so while it is sent again.
    """
    rows = await tx.fetch(
        _TAKE,
        [candidate.recipient_id for candidate, _, _ in chosen],
        [clock.sender for _, clock, _ in chosen],
        [clock.messaging_profile_id for _, clock, _ in chosen],
        [webhook_url for _, _, webhook_url in chosen],
        now,
        lease_seconds,
        list(choice.next_free_at),
        list(choice.next_free_at.values()),
        list(choice.lanes),
        [waking.wake_at for waking in choice.lanes.values()],
        [waking.urgent_at for waking in choice.lanes.values()],
    )
    return [
        Claimed(
            recipient_id=row["id"],
            church_id=row["church_id"],
            source_id=row["source_id"],
            number_id=row["number_id"],
            attempt=row["attempt"],
            group_started_at=row["group_started_at"],
            phone_ciphertext=row["phone_ciphertext"],
            sender=row["sender"],
            messaging_profile_id=row["messaging_profile_id"],
            text=row["text"],
            media_urls=tuple(row["media_urls"]),
            webhook_url=row["webhook_url"],
            traceparent=row["traceparent"],
            correlation_id=row["correlation_id"],
        )
        for row in rows
    ]


_PUT_ASIDE = statement(
    "claims.put_aside",
    """
    WITH closing AS MATERIALIZED (
        SELECT closing.*
        FROM unnest($1::uuid[], $2::text[], $3::text[]) AS closing (id, status, sentence)
    ),
    closed AS (
        UPDATE recipients
        SET status = closing.status, settled_at = clock_timestamp(),
            error_code = CASE
                WHEN closing.status = 'cancelled' THEN recipients.error_code
                WHEN closing.status = 'expired' THEN coalesce(recipients.error_code, closing.status)
                ELSE closing.status
            END,
            error_message = coalesce(closing.sentence, recipients.error_message)
        FROM closing
        WHERE recipients.id = closing.id AND recipients.status = 'queued'
        RETURNING
            recipients.church_id, recipients.source_id, recipients.kind, recipients.branch_id, 'queued' AS was,
            recipients.status AS became
    ),
    finished AS (
        DELETE FROM work USING closing WHERE work.recipient_id = closing.id
    ),
    postponed AS (
        UPDATE work
        SET due_at = clock_timestamp() + make_interval(secs => $5), is_held = work.state = 'ready'
        WHERE work.recipient_id = ANY ($4::uuid[])
    ),
    doubtful AS (
        UPDATE work
        SET resend = false
        WHERE work.recipient_id = ANY ($6::uuid[])
        RETURNING work.recipient_id, work.church_id, work.attempt, work.due_at
    ),
    aside AS (
        UPDATE work
        SET state = 'paused'
        WHERE work.recipient_id = ANY ($7::uuid[])
    ),
    told AS (
        INSERT INTO trail (id, at, what, church_id, was, became, attempt, until)
        SELECT
            doubtful.recipient_id, clock_timestamp(), 'left', doubtful.church_id, 'unknown', 'unknown',
            doubtful.attempt, doubtful.due_at
        FROM doubtful
    )
    SELECT church_id, source_id, kind, branch_id, was, became, count(*) AS rows
    FROM closed
    GROUP BY church_id, source_id, kind, branch_id, was, became
    """,
)


async def put_aside(
    tx: Transaction,
    closed: Sequence[tuple[UUID, str, str | None]],
    postponed: Sequence[UUID],
    postpone_seconds: float,
    doubtful: Sequence[UUID],
    *,
    paused: Sequence[UUID],
) -> list[Change]:
    """Close what shall never go (id, status, sentence), postpone what is held, leave to look-ups what is doubtful, and
    take out of the lanes what is paused.
    """
    rows = await tx.fetch(
        _PUT_ASIDE,
        [recipient_id for recipient_id, _, _ in closed],
        [status for _, status, _ in closed],
        [sentence for _, _, sentence in closed],
        list(postponed),
        postpone_seconds,
        list(doubtful),
        list(paused),
    )
    return [
        Change(
            church_id=row["church_id"],
            source_id=row["source_id"],
            kind=row["kind"],
            branch_id=row["branch_id"],
            was=row["was"],
            became=row["became"],
            rows=row["rows"],
        )
        for row in rows
    ]


# Who has one locked is settling it, most often this very worker: to wait for that, with others locked, is a deadlock.
_RENEW = statement(
    "work.renew",
    """
    WITH task AS MATERIALIZED (
        SELECT work.recipient_id
        FROM work
        JOIN unnest($1::uuid[], $2::int[]) AS held (id, attempt)
            ON held.id = work.recipient_id AND held.attempt = work.attempt
        WHERE work.state = 'sending'
        ORDER BY work.recipient_id
        FOR UPDATE OF work SKIP LOCKED
    )
    UPDATE work
    SET leased_until = clock_timestamp() + make_interval(secs => $3)
    FROM task
    WHERE work.recipient_id = task.recipient_id
    """,
)


async def renew(tx: Transaction, held: Sequence[tuple[UUID, int]], lease_seconds: float) -> None:
    """Lengthen the leases of calls that are still under way (id, attempt)."""
    await tx.execute(_RENEW, [each[0] for each in held], [each[1] for each in held], lease_seconds)
