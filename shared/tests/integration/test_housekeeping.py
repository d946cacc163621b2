"""What grows by itself goes again, and not a day early."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from koinonia import clock
from koinonia.bus.inbox import INBOX_DAYS
from koinonia.db import statement
from koinonia.housekeeping import tidy, watch_partitions
from koinonia.testing.databases import Databases

_INSERT_INBOX = statement(
    "test.inbox",
    """
    INSERT INTO inbox (queue, event_id, received_at)
    SELECT 'q', gen_random_uuid(), each FROM unnest($1::timestamptz[]) AS each
    """,
)
_INSERT_KEYS = statement(
    "test.keys",
    """
    INSERT INTO idempotency_keys (church_id, principal_id, path, key, body_hash, status, created_at)
    SELECT gen_random_uuid(), gen_random_uuid(), '/', 'k', '', 200, each FROM unnest($1::timestamptz[]) AS each
    """,
)
_COUNTS = statement("test.counts", "SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM idempotency_keys)")


async def test_old_rows_go_and_younger_ones_stay(databases: Databases) -> None:
    database = await databases("billing")
    now, minute = clock.now(), timedelta(minutes=1)
    inbox_end, keys_end = now - timedelta(days=INBOX_DAYS), now - timedelta(hours=24)
    async with database.across_churches() as tx:
        await tx.execute(_INSERT_INBOX, [inbox_end - minute, inbox_end - minute, inbox_end + minute, now])
        await tx.execute(_INSERT_KEYS, [keys_end - minute, keys_end + minute])
    assert await tidy(database) == 3
    assert await tidy(database) == 0
    async with database.across_churches() as tx:
        counts = await tx.fetch_row(_COUNTS)
    assert counts is not None
    assert tuple(counts) == (2, 1)


@pytest.mark.parametrize(("days", "tables"), [(0, []), (55, []), (90, ["usage_ledger"]), (200, ["usage_ledger"])])
async def test_partitions_that_nobody_makes_ahead_are_told_of(
    databases: Databases, days: int, tables: list[str]
) -> None:
    database = await databases("billing")
    with clock.frozen(clock.now() + timedelta(days=days)), capture_logs() as logs:
        (ahead,) = (await watch_partitions(database)).values()
    assert 90 - days < ahead < 125 - days
    assert [each["table"] for each in logs if each["event"] == "partitions_end_soon"] == tables


async def test_a_service_without_partitions_has_none_to_watch(databases: Databases) -> None:
    assert await watch_partitions(await databases("gateway")) == {}
