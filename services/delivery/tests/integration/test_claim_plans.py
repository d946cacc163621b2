"""What a claim touches does not grow with how much waits: its plans, run as the service's role, and their buffers."""

import asyncpg
import pytest
from services.delivery.tests.integration.conftest import World

from koinonia import clock
from koinonia.ids import id_floor
from koinonia.testing.plans import Plan, explained
from koinonia.testing.servers import TestServers

# Churches, then recipients of each: one number each, their texts ready, all accepted a moment ago.
_FILL = """
WITH
    church AS MATERIALIZED (
        SELECT number, md5('church' || number)::uuid AS id FROM generate_series(1, $1::int) AS number
    ),
    number AS (
        INSERT INTO numbers (id, church_id, phone, kind, segments_per_second, messaging_profile_id, status, is_default)
        SELECT id, id, '+1305' || lpad(number::text, 7, '0'), 'long_code', 10000, 'profile', 'active', true
        FROM church
    ),
    person AS MATERIALIZED (
        SELECT
            overlay($3 PLACING lpad(to_hex((church.number - 1) * $2 + each), 12, '0') FROM 25)::uuid AS recipient_id,
            church.id AS church_id,
            decode(md5(church.number || ' ' || each), 'hex') AS phone_index
        FROM church
        CROSS JOIN generate_series(1, $2::int) AS each
    ),
    recipient AS (
        INSERT INTO recipients (
            id, church_id, source_id, kind, status, segments, encoding, number_id, member_ids, phone_index,
            phone_ciphertext, text, media_urls
        )
        SELECT
            recipient_id, church_id, church_id, 'broadcast', 'queued', 1, 'GSM-7', church_id, '{}', phone_index,
            phone_index, 'Hello', '{}'
        FROM person
    )
INSERT INTO work (recipient_id, church_id, source_id, number_id, phone_index, priority, segments, state, due_at)
SELECT
    recipient_id, church_id, church_id, church_id, phone_index, 1, 1, 'ready', clock_timestamp() - interval '1 minute'
FROM person
"""


async def fill(world: World, servers: TestServers, churches: int, recipients: int) -> None:
    """So many churches with so many texts that wait, as the server's administrator."""
    connection = await asyncpg.connect(servers.database_url(world.database.url.rpartition("/")[2].partition("?")[0]))
    try:
        await connection.execute("SET search_path = delivery")
        await connection.execute(_FILL, churches, recipients, str(id_floor(clock.now())))
        for table in ("numbers", "recipients", "work", "lanes"):
            await connection.execute(f"VACUUM ANALYZE {table}")
    finally:
        await connection.close()


async def empty(world: World, servers: TestServers) -> None:
    """Nobody waits any more, and nobody did."""
    connection = await asyncpg.connect(servers.database_url(world.database.url.rpartition("/")[2].partition("?")[0]))
    try:
        await connection.execute("TRUNCATE delivery.work, delivery.recipients, delivery.lanes, delivery.numbers")
    finally:
        await connection.close()


PLACES = 100


async def claims_of(world: World) -> dict[str, Plan]:
    """A claim of a hundred, after one that has found its caches warm."""
    await world.claim(PLACES)
    with explained() as plans:
        assert len((await world.claim(PLACES)).calls) == PLACES
    return {name: plans.of(name) for name in plans.by_name if name.startswith("claims.")}


@pytest.mark.parametrize(
    ("few", "many"), [((1, 10_000), (1, 100_000)), ((200, 50), (4000, 25))], ids=["recipients", "churches"]
)
async def test_a_claim_touches_as_much_whether_few_or_many_wait(
    world: World, servers: TestServers, few: tuple[int, int], many: tuple[int, int]
) -> None:
    """Ten and twenty times as many: an index may have a level more, which is a page more for each look into it."""
    await fill(world, servers, *few)
    among_few = await claims_of(world)
    await empty(world, servers)
    await fill(world, servers, *many)
    among_many = await claims_of(world)
    assert set(among_few) == {"claims.lock_lanes", "claims.pick", "claims.take"}
    assert pages(among_many) <= 1.5 * pages(among_few), (among_few, among_many)
    for name, plan in among_many.items():
        assert not plan.scanned(), name


def pages(plans: dict[str, Plan]) -> int:
    """How many they touched."""
    return sum(plan.buffers for plan in plans.values())
