"""Plans of what lists and finds people, as the service's own role, in a church of 100,000: bounded, whatever its size.

``KOINONIA_PLAN_MEMBERS`` makes the church as big as wanted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from koinonia.api.members import MemberQuery
from koinonia.ids import new_id
from koinonia.testing.plans import Plans, explained
from koinonia_messaging import finding
from koinonia_messaging.store import doubles

if TYPE_CHECKING:
    from services.messaging.tests.integration.conftest import Church

    from koinonia.testing.servers import TestServers

MEMBERS = int(os.environ.get("KOINONIA_PLAN_MEMBERS", "100000"))
BIG = {"members", "member_words", "group_members"}

# Every tenth of them in a church of its own. A thousand first names, last names that a dozen people have, and one
# common to half.
FILL = """
INSERT INTO members (
    id, church_id, version, first_name, last_name, name_key, phone_ciphertext, phone_index, email_ciphertext,
    email_index, branch_id, opted_in, external_id, custom_fields, created_at, updated_at
)
SELECT
    md5('m' || $1::uuid::text || person)::uuid, $1::uuid, 1, first, last, first || ' ' || last,
    '', decode(md5('p' || person / 2), 'hex'), '', decode(md5('e' || person), 'hex'), $2::uuid, person % 2 = 0,
    CASE person % 2 WHEN 0 THEN 'x' || person END, '{}', now(), now()
FROM (
    SELECT
        person,
        'f' || substr(md5((person % 1000)::text), 1, 6) AS first,
        CASE person % 2 WHEN 0 THEN 'smith ' ELSE '' END || substr(md5((person % 7919)::text), 1, 8) || person % 7
            AS last
    FROM generate_series(1, $3::int) AS person
) AS named
"""
IN_GROUP = """
INSERT INTO group_members (group_id, member_id, church_id)
SELECT $2::uuid, md5('m' || $1::uuid::text || person)::uuid, $1::uuid FROM generate_series(1, $3::int) AS person
"""
DELETE = "UPDATE members SET deleted_at = now() WHERE id = ANY (SELECT id FROM members ORDER BY id LIMIT 50)"


def check(plans: Plans, most: int, *, sorts: int = 1001) -> None:
    """See that no table of many rows was read whole, and that few pages were touched and few rows sorted."""
    for name, plan in plans.all():
        assert not plan.scanned() & BIG, f"{name} reads {plan.scanned()} whole"
        assert plan.buffers <= most, f"{name} touches {plan.buffers} pages"
        assert plan.sorted_rows() <= sorts, f"{name} sorts {plan.sorted_rows()} rows"


@pytest.mark.timeout(600)
async def test_people_are_listed_and_found_by_their_indexes(church: Church, servers: TestServers) -> None:
    administrator = await asyncpg.connect(servers.database_url(church.database.url.rpartition("/")[2]))
    try:
        await administrator.execute("SET search_path = messaging")
        for row in await administrator.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'messaging'"):
            await administrator.execute(f"ALTER TABLE {row[0]} SET (autovacuum_enabled = off)")
        home = await administrator.fetchval("SELECT id FROM branches")
        small, branch, large, other = (new_id() for _ in range(4))
        await administrator.execute(
            "INSERT INTO branches SELECT $1, church_id, 1, 'North', '', false, now(), now() FROM branches", branch
        )
        for group in (small, large):
            await administrator.execute(
                "INSERT INTO groups SELECT $1::uuid, $2::uuid, $1::uuid::text, '', NULL, 0, now(), now()",
                group,
                church.id,
            )
        for church_id, place, count in ((church.id, home, MEMBERS), (other, home, MEMBERS // 10)):
            await administrator.execute(FILL, church_id, place, count)
        for group, count in ((small, 20), (large, MEMBERS // 2)):
            await administrator.execute(IN_GROUP, church.id, group, count)
        await administrator.execute(
            "UPDATE members SET branch_id = $1 WHERE external_id = ANY ('{x100,x2000}')", branch
        )
        await administrator.execute(DELETE)
        word = "fc81e72"  # a first name that a hundred have

        async def find(most: int, **values: Any) -> None:
            with explained() as plans:
                async with church.database.tenant(church.id) as tx:
                    query = MemberQuery(**values)
                    found = await finding.find(tx, church.actor, query, church.keys, after=None)
                check(plans, most)
            assert found or values["search"] in {"+13125550000", "a@b.example"}, values

        await administrator.execute("VACUUM (ANALYZE)")
        for sort in ("-createdAt", "createdAt", "name", "-name"):
            await find(400, sort=sort)
            await find(800, sort=sort, deleted=True)
        await find(200, branch_id=branch)
        await find(400, group_id=small)
        await find(400, group_id=large)
        await find(400, group_id=small, sort="name")
        await find(400, search="x4000")
        await find(100, search="+13125550000")
        await find(100, search="a@b.example")
        await find(4000, search=word)
        await find(4000, search=f"{word} smith")
        await find(6000, search="smi", sort="name")
        await find(6000, search="smi")
        place = None
        for _ in range(3):
            with explained() as plans:
                async with church.database.tenant(church.id) as tx:
                    _, place = await doubles.list_page(tx, place, 21)
            check(plans, 30_000)
            assert place is not None  # its phones are families'
    finally:
        await administrator.close()
