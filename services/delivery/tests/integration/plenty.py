"""A delivery that has long been at work: many churches, and a month with as many copies as wanted, made quickly.

The copies of one message are as its streamer makes them: one time in their ids, the rest as if by chance, in an order
of storing that has nothing to do with it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from koinonia import clock
from koinonia.ids import derived_id, new_id

_ID = "(lpad(to_hex({milliseconds}), 12, '0') || '7' || substr({chance}, 1, 3) || '8' || substr({chance}, 4, 15))::uuid"

# $1 church, $2 message, $3 number, $4 milliseconds of its dispatch, $5 rows, $6 status of all, but for the first three,
# which have $7. Stored in the order of their phones' indexes.
_COPIES = f"""
INSERT INTO recipients (
    id, church_id, source_id, kind, status, segments, encoding, number_id, member_ids, phone_index, phone_ciphertext,
    text, media_urls, carrier_id, accepted_at, sent_at, delivered_at, settled_at
)
SELECT
    {_ID.format(milliseconds="$4::bigint", chance="chance")},
    $1::uuid, $2::uuid, 'broadcast', status, 1, 'GSM-7', $3::uuid,
    ARRAY[md5('m' || $1::text || person)::uuid], phone_index, decode(repeat(md5(person::text), 3), 'hex'),
    'Hi Anna, the service starts at 10 on Sunday. Reply STOP to opt out.', '{{}}', md5(chance),
    CASE WHEN status IN ('sent', 'delivered', 'undelivered') THEN now() END,
    CASE WHEN status IN ('sent', 'delivered', 'undelivered') THEN now() END,
    CASE WHEN status = 'delivered' THEN now() END,
    CASE WHEN status NOT IN ('queued', 'sending', 'sent', 'unknown') THEN now() END
FROM (
    SELECT
        person, md5($2::text || person) AS chance, decode(md5('p' || $1::text || person), 'hex') AS phone_index,
        CASE WHEN person <= 3 THEN $7::text ELSE $6::text END AS status
    FROM generate_series(1, $5::int) AS person
) AS person
ORDER BY phone_index
"""
_LANES = """
INSERT INTO lanes (church_id, wake_at)
SELECT church_id, min(due_at) FROM work WHERE state = 'ready' OR (state = 'unknown' AND resend) GROUP BY church_id
"""
_PROBLEMS = """
INSERT INTO problems (source_id, status, id, church_id)
SELECT source_id, status, id, church_id
FROM recipients
WHERE status IN ('unknown', 'undelivered', 'unconfirmed', 'failed', 'suppressed', 'expired')
"""
_WORK = """
INSERT INTO work (
    recipient_id, church_id, source_id, number_id, phone_index, priority, segments, state, due_at, group_started_at,
    sender, webhook_url, attempt
)
SELECT
    id, church_id, source_id, number_id, phone_index, 1, 1, CASE status WHEN 'unknown' THEN 'unknown' ELSE 'ready' END,
    now(), now(), '+12055550000', 'https://x.test/s', 0
FROM recipients
WHERE status IN ('queued', 'unknown')
"""
_CHURCHES = """
INSERT INTO {table}
SELECT {columns}
FROM generate_series(1, $1::int) AS church
"""
_MEMBERS = """
INSERT INTO consents (member_id, church_id, version, phone_index, consents)
SELECT md5('m' || $1::text || person)::uuid, $1::uuid, 1, decode(md5('p' || $1::text || person), 'hex'), true
FROM generate_series(1, $2::int) AS person
"""
_PHONES = "INSERT INTO member_phones SELECT member_id, phone_index, church_id FROM consents WHERE church_id = $1::uuid"
_SUPPRESSED = """
INSERT INTO suppressions (church_id, phone_index, suppressed, occurred_at, version)
SELECT $1::uuid, decode(md5('gone' || person), 'hex'), true, now(), 1 FROM generate_series(1, $2::int) AS person
"""


_NUMBER = """
INSERT INTO numbers (id, church_id, phone, kind, segments_per_second, messaging_profile_id, status, is_default)
VALUES ($1, $2, '+12055550000', 'long_code', 10000, 'profile', 'active', true)
"""


@dataclass(frozen=True)
class Plenty:
    """What there is. ``failed`` and ``delivered`` are messages of half the copies each, but for three of theirs."""

    church_id: UUID
    number_id: UUID
    failed: UUID
    failed_at: datetime
    delivered: UUID
    delivered_at: datetime
    member_id: UUID  # has a copy of each
    rows: int


async def fill(
    connection: "asyncpg.Connection[asyncpg.Record]", rows: int, churches: int, *, waiting: int = 20_000
) -> Plenty:
    """Fill an empty database of delivery; ``connection`` is an administrator's.

    ``waiting``: copies that wait, of ten of the churches, each with a number of its own. Statistics are not gathered.
    """
    at = clock.now().replace(microsecond=0) - timedelta(hours=1)
    at = max(at, clock.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(seconds=1))
    church_id, number_id = new_id(), new_id()
    failed, delivered = new_id(), new_id()
    await connection.execute("SET search_path = delivery; SET session_replication_role = replica")
    index = "CREATE INDEX recipients_phone ON recipients (phone_index, id)"  # made last, it is made quickly
    await connection.execute("DROP INDEX recipients_phone")
    half = rows // 2
    times = [at + timedelta(milliseconds=number) for number in range(12)]
    await _send(connection, church_id, failed, number_id, at=times[0], rows=half, status="failed", but="delivered")
    await _send(connection, church_id, delivered, number_id, at=times[1], rows=half, status="delivered", but="failed")
    await _fill_churches(connection, church_id, number_id, churches)
    query = "SELECT church_id FROM numbers WHERE church_id <> $1 ORDER BY id LIMIT 10"
    others = [row["church_id"] for row in await connection.fetch(query, church_id)]
    for other, at in zip(others, times[2:], strict=True):
        other_number = await connection.fetchval("SELECT id FROM numbers WHERE church_id = $1", other)
        message = new_id()
        each = waiting // len(others)
        await _send(connection, other, message, other_number, at=at, rows=each, status="queued", but="unknown")
    await connection.execute(_WORK)
    await connection.execute(_LANES)
    await connection.execute(_PROBLEMS)
    await connection.execute(index)
    await connection.execute(_MEMBERS, str(church_id), half)
    await connection.execute(_PHONES, church_id)
    await connection.execute(_SUPPRESSED, church_id, 20_000)
    await connection.execute("UPDATE freshness SET marker_sent_at = clock_timestamp()")
    await connection.execute("RESET session_replication_role; CHECKPOINT")
    member_id = await connection.fetchval("SELECT md5('m' || $1::text || 1)::uuid", str(church_id))
    return Plenty(church_id, number_id, failed, times[0], delivered, times[1], member_id, rows)


async def _send(
    connection: "asyncpg.Connection[asyncpg.Record]",
    church_id: UUID,
    message_id: UUID,
    number_id: UUID,
    *,
    at: datetime,
    rows: int,
    status: str,
    but: str,
) -> None:
    milliseconds = derived_id(at, b"").int >> 80
    await connection.execute(
        _COPIES, str(church_id), str(message_id), str(number_id), milliseconds, rows, status, but, timeout=3600
    )
    await connection.execute(
        "INSERT INTO broadcasts (message_id, church_id, dispatched_at, recipient_count) VALUES ($1, $2, $3, $4)",
        message_id,
        church_id,
        at,
        rows,
    )


async def _fill_churches(
    connection: "asyncpg.Connection[asyncpg.Record]", church_id: UUID, number_id: UUID, churches: int
) -> None:
    other = "md5('church' || church)::uuid"
    phone = "'+1' || (2000000000 + church)"
    for table, columns in (
        ("churches (church_id, version, status)", f"{other}, 1, 'active'"),
        (
            "numbers (id, church_id, phone, kind, segments_per_second, messaging_profile_id, status, is_default)",
            f"md5('number' || church)::uuid, {other}, {phone}, 'long_code', 10000, 'profile', 'active', true",
        ),
    ):
        await connection.execute(_CHURCHES.format(table=table, columns=columns), churches)
    await connection.execute("INSERT INTO churches VALUES ($1, 1, 'active')", church_id)
    await connection.execute(_NUMBER, number_id, church_id)
