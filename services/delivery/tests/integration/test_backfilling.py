"""What was stored before a migration is found by what it made."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from koinonia import clock
from koinonia.db import migrate as runner
from koinonia.ids import derived_id, new_id
from koinonia.testing.servers import TestServers

BEFORE = 3  # the last migration without problems and phones
BEFORE_URGENT = 12  # the last whose code knows nothing of urgent broadcasts

STORE = """
INSERT INTO delivery.recipients (
    id, church_id, source_id, kind, status, segments, encoding, member_ids, phone_index, phone_ciphertext, text,
    media_urls, settled_at
)
VALUES ($1, $2, $3, 'broadcast', $4, 1, 'GSM-7', $5, 'phone', 'sealed', 'hello', '{}', now())
"""

STORE_WORK = """
INSERT INTO delivery.work (
    recipient_id, church_id, source_id, number_id, phone_index, priority, segments, state, due_at, attempt
)
VALUES ($1, $2, $1, $3, 'phone', $4, 1, 'ready', now(), 0)
"""


@pytest.fixture
async def url(servers: TestServers) -> AsyncIterator[str]:
    """An empty database of the test's own, as its administrator."""
    name = servers.new_name()
    await servers.create_database(name)
    yield servers.database_url(name)
    await servers.drop_database(name)


async def test_problems_and_phones_of_older_rows_are_found_and_old_code_goes_on(url: str) -> None:
    await runner.migrate(url, ["delivery"])
    newer = [step for step in runner.load("delivery") if step.version > BEFORE]
    await runner.roll_back(url, "delivery", len(newer))
    connection = await asyncpg.connect(url)
    church, message, member, other = new_id(), new_id(), new_id(), new_id()
    ids = {status: derived_id(clock.now(), status.encode()) for status in ("failed", "cancelled", "unknown")}
    try:
        for rule in ("settled", "accepted", "delivered"):  # of rows that stand here for any others
            await connection.execute(f"ALTER TABLE delivery.recipients DROP CONSTRAINT {rule}")
        for status, id in ids.items():
            await connection.execute(STORE, id, church, message, status, [member, other])
        await connection.execute(
            "INSERT INTO delivery.consents VALUES ($1, $2, 1, 'second', true), ($3, $2, 1, NULL, false)",
            member,
            church,
            other,
        )
        await runner.migrate(url, ["delivery"])
        problems = await connection.fetch("SELECT source_id, status, id, church_id FROM delivery.problems")
        assert {tuple(row) for row in problems} == {
            (message, status, ids[status], church) for status in ("failed", "unknown")
        }
        phones = await connection.fetch("SELECT member_id, phone_index, church_id FROM delivery.member_phones")
        assert {tuple(row) for row in phones} == {
            (member, b"phone", church),
            (member, b"second", church),
            (other, b"phone", church),
        }
        # The statements of the code before know nothing of it, and need not.
        await connection.execute("UPDATE delivery.recipients SET status = 'expired' WHERE status = 'unknown'")
        await connection.execute("UPDATE delivery.recipients SET status = 'delivered' WHERE status = 'failed'")
        await connection.execute("DELETE FROM delivery.recipients WHERE status = 'cancelled'")
        assert [row[0] for row in await connection.fetch("SELECT status FROM delivery.problems")] == ["expired"]
        await connection.execute("DELETE FROM delivery.recipients")
        assert await connection.fetch("SELECT status FROM delivery.problems") == []
    finally:
        await connection.close()


async def test_urgent_broadcasts_are_left_to_older_code_as_others(url: str) -> None:
    """It asks for priorities 0 and 1."""
    await runner.migrate(url, ["delivery"])
    connection = await asyncpg.connect(url)
    church, number = new_id(), new_id()
    try:
        for priority in (0, 1, 2):
            await connection.execute(STORE_WORK, new_id(), church, number, priority)
        newer = [step for step in runner.load("delivery") if step.version > BEFORE_URGENT]
        await runner.roll_back(url, "delivery", len(newer))
        rows = await connection.fetch("SELECT priority FROM delivery.work ORDER BY priority")
        assert [row["priority"] for row in rows] == [0, 1, 1]
        assert await connection.fetchval("SELECT wake_at IS NOT NULL FROM delivery.lanes")
    finally:
        await connection.close()
