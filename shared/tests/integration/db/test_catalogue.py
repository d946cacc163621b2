"""The catalogue of a migrated database keeps churches and services apart; each rule is shown to see its violation."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest

from koinonia import clock
from koinonia.db import migrate as runner
from koinonia.db import partitions
from koinonia.db.roles import SERVICES
from koinonia.ids import new_id
from koinonia.testing import catalogue
from koinonia.testing.servers import TestServers

FUNCTION = "LANGUAGE sql SET search_path = pg_catalog AS 'SELECT 1'"
PLANTED = {
    "a table of churches without any policy": (
        "CREATE TABLE billing.planted (church_id uuid)",
        ["billing.planted: has no row-level security", "billing.planted: does not force row-level security"],
    ),
    "a table that does not say whose it is": (
        "CREATE TABLE billing.planted (id uuid)",
        ["billing.planted: has no church_id and is not named as shared"],
    ),
    "row-level security that is off": (
        "ALTER TABLE messaging.members DISABLE ROW LEVEL SECURITY",
        ["messaging.members: has no row-level security"],
    ),
    "row-level security that does not bind the owner": (
        "ALTER TABLE messaging.members NO FORCE ROW LEVEL SECURITY",
        ["messaging.members: does not force row-level security"],
    ),
    "a partition that forces nothing": (
        "CREATE TABLE billing.usage_ledger_rest PARTITION OF billing.usage_ledger DEFAULT",
        ["billing.usage_ledger_rest: has no row-level security"],
    ),
    "a policy on a partition": (
        "CREATE POLICY more ON {partition} USING (true)",
        ["{partition}: has a policy more that is not named"],
    ),
    "a right on a partition": (
        "GRANT SELECT ON {partition} TO koinonia_billing",
        ["a right on a partition, which no policy guards: koinonia_billing on {partition}"],
    ),
    "no policy for the church": (
        "DROP POLICY tenant ON messaging.members",
        ["messaging.members: has no policy tenant"],
    ),
    "a policy that reads everything": (
        "ALTER POLICY tenant ON messaging.members USING (true)",
        ["messaging.members: has another policy tenant than the rule"],
    ),
    "a policy that writes everything": (
        "ALTER POLICY tenant ON messaging.members WITH CHECK (true)",
        ["messaging.members: has another policy tenant than the rule"],
    ),
    "a policy for everybody": (
        "ALTER POLICY owner ON messaging.members TO PUBLIC",
        ["messaging.members: has another policy owner than the rule"],
    ),
    "a second policy": (
        "CREATE POLICY more ON messaging.members TO koinonia_messaging USING (true)",
        ["messaging.members: has a policy more that is not named"],
    ),
    "a table across churches that is not named": (
        "CREATE POLICY across ON messaging.members TO koinonia_messaging_across USING (true) WITH CHECK (true)",
        ["messaging.members: has a policy across that is not named"],
    ),
    "a view as its owner": (
        "CREATE VIEW billing.planted AS SELECT * FROM billing.subscriptions",
        ["a view without security_invoker: billing.planted"],
    ),
    "a view that says that it is none": (
        "CREATE VIEW billing.planted WITH (security_invoker = false) AS SELECT 1",
        ["a view without security_invoker: billing.planted"],
    ),
    "a materialized view": (
        "CREATE MATERIALIZED VIEW billing.planted AS SELECT 1",
        ["a materialized view, which no policy guards: billing.planted"],
    ),
    "a superuser": (
        "ALTER ROLE koinonia_billing SUPERUSER",
        ["a role that may more than ours should: koinonia_billing"],
    ),
    "a role past the policies": (
        "ALTER ROLE koinonia_billing_across BYPASSRLS",
        ["a role that may more than ours should: koinonia_billing_across"],
    ),
    "a role of nobody's past the policies": (
        "CREATE ROLE koinonia_reader BYPASSRLS",
        ["a role that passes row-level security, or is called like ours and is none: koinonia_reader"],
    ),
    "a role that makes roles": (
        "ALTER ROLE koinonia_billing_owner CREATEROLE",
        ["a role that may more than ours should: koinonia_billing_owner"],
    ),
    "a role that makes databases": (
        "ALTER ROLE koinonia_billing CREATEDB",
        ["a role that may more than ours should: koinonia_billing"],
    ),
    "a role that replicates": (
        "ALTER ROLE koinonia_billing REPLICATION",
        ["a role that may more than ours should: koinonia_billing"],
    ),
    "an owner that logs in": (
        "ALTER ROLE koinonia_billing_owner LOGIN",
        ["a role that can log in, or inherits, and should not: koinonia_billing_owner"],
    ),
    "a role that is across churches always": (
        "ALTER ROLE koinonia_billing INHERIT",
        ["a role that can log in, or inherits, and should not: koinonia_billing"],
    ),
    "a service that becomes its owner": (
        "GRANT koinonia_billing_owner TO koinonia_billing",
        ["a membership that is not named: koinonia_billing in koinonia_billing_owner"],
    ),
    "a service that becomes another": (
        "GRANT koinonia_messaging_across TO koinonia_billing",
        ["a membership that is not named: koinonia_billing in koinonia_messaging_across"],
    ),
    "a service that reads everything": (
        "GRANT pg_read_all_data TO koinonia_billing",
        ["a membership that is not named: koinonia_billing in pg_read_all_data"],
    ),
    "a service that gives its membership on": (
        "GRANT koinonia_billing_across TO koinonia_billing WITH ADMIN OPTION",
        ["a membership that is not named: koinonia_billing in koinonia_billing_across as its admin"],
    ),
    "a stranger in a role of ours": (
        "CREATE ROLE koinonia_planted; GRANT koinonia_billing TO koinonia_planted",
        ["a membership that is not named: koinonia_planted in koinonia_billing"],
    ),
    "a right on another's table": (
        "GRANT SELECT ON messaging.members TO koinonia_billing",
        ["a right on another's table: koinonia_billing on messaging.members"],
    ),
    "a right on another's column": (
        "GRANT SELECT (name) ON messaging.churches TO koinonia_billing",
        ["a right on another's table: koinonia_billing on messaging.churches"],
    ),
    "a right of everybody": (
        "GRANT SELECT ON messaging.churches TO PUBLIC",
        ["a right on another's table: koinonia_billing on messaging.churches"],
    ),
    "a table that everybody sees": (
        "CREATE TABLE public.planted (id uuid); GRANT INSERT ON public.planted TO PUBLIC",
        ["a right on another's table: koinonia_billing on planted"],
    ),
    "a right to empty a table": (
        "GRANT TRUNCATE ON messaging.members TO koinonia_messaging",
        ["a right that passes by the policies: koinonia_messaging on messaging.members"],
    ),
    "a sequence of another": (
        "CREATE SEQUENCE messaging.planted; GRANT USAGE ON SEQUENCE messaging.planted TO koinonia_billing",
        ["a right on another's sequence: koinonia_billing on messaging.planted"],
    ),
    "another's schema": (
        "GRANT USAGE ON SCHEMA messaging TO koinonia_billing",
        ["a right on a schema: koinonia_billing on messaging"],
    ),
    "everybody's schema": (
        "GRANT USAGE ON SCHEMA public TO PUBLIC",
        ["a right on a schema: koinonia_billing on public"],
    ),
    "a service that makes tables": (
        "GRANT CREATE ON SCHEMA billing TO koinonia_billing",
        ["a right on a schema: koinonia_billing on billing"],
    ),
    "a function for everybody": (
        f"CREATE FUNCTION messaging.planted() RETURNS int {FUNCTION}",
        ["a right on another's function: koinonia_billing on messaging.planted()"],
    ),
    "a type for everybody": (
        "CREATE DOMAIN messaging.planted AS text",
        ["a right on another's type: koinonia_billing on messaging.planted"],
    ),
    "a service that makes schemas": (
        "DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO koinonia_billing', current_database()); END $$",
        ["a right on the database: koinonia_billing"],
    ),
    "temporary tables for everybody": (
        "DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO PUBLIC', current_database()); END $$",
        ["a right on the database: koinonia_billing"],
    ),
    "rights given ahead": (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA billing GRANT SELECT ON TABLES TO koinonia_billing",
        ["default privileges: billing "],
    ),
    "a table of the service's own making": (
        "CREATE TABLE billing.planted (church_id uuid); ALTER TABLE billing.planted OWNER TO koinonia_billing",
        [
            "billing.planted: is owned by koinonia_billing",
            "an object of a role that owns none: koinonia_billing billing.",
        ],
    ),
    "a function that takes its tables from anywhere": (
        "CREATE FUNCTION billing.planted() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        ["a function without a fixed search_path: billing.planted()"],
    ),
    "a function as its owner": (
        f"CREATE FUNCTION billing.planted() RETURNS int SECURITY DEFINER {FUNCTION}",
        ["a SECURITY DEFINER function that is not named: billing.planted()"],
    ),
    "a function as its owner in everybody's schema": (
        f"CREATE FUNCTION public.planted() RETURNS int SECURITY DEFINER {FUNCTION}",
        ["a SECURITY DEFINER function that is not named: planted()"],
    ),
}


@pytest.fixture(scope="module")
async def admin_url(servers: TestServers) -> AsyncIterator[str]:
    """A database with every service's schema, for all tests here: what they plant is rolled back."""
    name = servers.new_name()
    await servers.create_database(name)
    await runner.migrate(servers.database_url(name))
    yield servers.database_url(name)
    await servers.drop_database(name)


@pytest.fixture
async def connection(admin_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    opened = await asyncpg.connect(admin_url)
    transaction = opened.transaction()
    await transaction.start()
    yield opened
    await transaction.rollback()
    await opened.close()


async def test_a_migrated_database_has_no_fault(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    assert await catalogue.faults(connection) == []
    tables = {f"{schema}.{table}" for schema, table in await catalogue.tenant_tables(connection)}
    assert len(tables) > 40
    assert tables >= catalogue.ACROSS
    assert not catalogue.SHARED & tables


async def test_partitions_that_the_schedule_makes_later_have_none_either(servers: TestServers) -> None:
    name = servers.new_name()
    await servers.create_database(name)
    try:
        url = servers.database_url(name)
        await runner.migrate(url)
        with clock.frozen(datetime(2031, 5, 4, tzinfo=UTC)):
            made = await partitions.maintain(url, SERVICES)
        assert {partition.rpartition("_20")[0] for partition in made} == {
            "billing.usage_ledger",
            "compliance.audit_log",
            "conversation.conversation_messages",
            "delivery.problems",
            "delivery.recipients",
            "delivery.trail",
        }
        connection = await asyncpg.connect(url)
        assert await catalogue.faults(connection) == []
        await connection.close()
    finally:
        await servers.drop_database(name)


@pytest.mark.parametrize("what", PLANTED)
async def test_what_is_planted_is_found(connection: "asyncpg.Connection[asyncpg.Record]", what: str) -> None:
    partition = await connection.fetchval(
        "SELECT min(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'billing.usage_ledger'::regclass"
    )
    planting, expected = PLANTED[what]
    await connection.execute(planting.replace("{partition}", partition))
    found = await catalogue.faults(connection)
    for fault in (each.replace("{partition}", partition) for each in expected):
        assert [each for each in found if each.startswith(fault)], f"{fault!r} is not among {found}"


# Values that fit a column's type; a church's rows are told apart by church_id alone.
VALUES = {
    "uuid": "gen_random_uuid()",
    "text": "gen_random_uuid()::text",
    "bytea": "decode(md5(random()::text), 'hex')",
    "integer": "1",
    "bigint": "1",
    "smallint": "1",
    "double precision": "1",
    "boolean": "true",
    "date": "current_date",
    "timestamp with time zone": "now()",
    "timestamp without time zone": "localtimestamp",
    "timestamp without time zone[]": "'{}'",
    "jsonb": "'{}'",
    "text[]": "'{}'",
    "uuid[]": "'{}'",
}
COLUMNS = """
SELECT attname AS name, format_type(atttypid, NULL) AS type
FROM pg_attribute
WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attnotnull
    AND attname <> 'church_id'
"""
CHECKS = "SELECT conname FROM pg_constraint WHERE conrelid = $1::regclass AND contype = 'c' AND coninhcount = 0"
OURS, THEIRS = new_id(), new_id()


@pytest.fixture
async def probed(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, str]:
    """A row of each of two churches in every table of churches, and how to insert one more of a church."""
    inserts = {}
    await connection.execute("SET LOCAL session_replication_role = replica")  # what a row refers to is not probed
    for schema, table in await catalogue.tenant_tables(connection):
        name = f"{schema}.{table}"
        for check in await connection.fetch(CHECKS, name):
            await connection.execute(f"ALTER TABLE {name} DROP CONSTRAINT {check['conname']}")
        columns = {row["name"]: VALUES[row["type"]] for row in await connection.fetch(COLUMNS, name)}
        if "id" in columns and columns["id"] == VALUES["uuid"]:
            columns["id"] = "'{id}'"
        listed, values = ", ".join(["church_id", *columns]), ", ".join(["'{church}'", *columns.values()])
        inserts[name] = f"INSERT INTO {name} ({listed}) VALUES ({values})"
        for church in (OURS, THEIRS):
            await connection.execute(row_of(inserts[name], church))
    return inserts


def row_of(insert: str, church: UUID) -> str:
    return insert.replace("{church}", str(church)).replace("{id}", str(new_id()))


async def test_every_church_table_shows_and_takes_the_named_churchs_rows_only(
    connection: "asyncpg.Connection[asyncpg.Record]", probed: dict[str, str]
) -> None:
    faults: list[str] = []

    async def expect(what: str, command: str, wanted: int | type[Exception]) -> None:
        """Run it in a savepoint, as whoever we are: so many rows, or this refusal."""
        outcome: int | type[Exception]
        try:
            async with connection.transaction():
                outcome = int((await connection.execute(command)).rpartition(" ")[2])
                raise _Undo
        except _Undo:
            pass
        except asyncpg.PostgresError as error:
            outcome = type(error)
        if outcome != wanted:
            faults.append(f"{what}: {outcome} instead of {wanted}")

    refused = asyncpg.InsufficientPrivilegeError
    for name, insert in probed.items():
        service = f"koinonia_{name.partition('.')[0]}"
        rights = await rights_on(connection, service, name)
        for tenant, count in (("", 0), (str(OURS), 1), (str(new_id()), 0)):
            await connection.execute(f"SET SESSION AUTHORIZATION {service}")
            await connection.execute(f"SET LOCAL koinonia.church_id = '{tenant}'")
            told = f"{name} as {service} in {'our church' if count else tenant or 'no church'}"
            mine = tenant == str(OURS)

            def allowed(right: str, rows: int, rights: set[str] = rights) -> int | type[Exception]:
                return rows if right in rights else refused

            await expect(f"{told} reads", f"SELECT FROM {name}", count)
            await expect(f"{told} reads theirs", f"SELECT FROM {name} WHERE church_id = '{THEIRS}'", 0)
            theirs = f"WHERE church_id = '{THEIRS}'"
            touch = f"UPDATE {name} SET church_id = church_id"
            await expect(f"{told} updates all", touch, allowed("UPDATE", count))
            await expect(f"{told} updates theirs", f"{touch} {theirs}", allowed("UPDATE", 0))
            if mine:
                give = f"UPDATE {name} SET church_id = '{THEIRS}'"
                await expect(f"{told} gives its row away", give, refused)
            await expect(f"{told} deletes all", f"DELETE FROM {name}", allowed("DELETE", count))
            await expect(f"{told} deletes theirs", f"DELETE FROM {name} {theirs}", allowed("DELETE", 0))
            await expect(f"{told} inserts theirs", row_of(insert, THEIRS), refused)
            if not mine:
                await expect(f"{told} inserts ours", row_of(insert, OURS), refused)
            await expect(f"{told} empties it", f"TRUNCATE {name}", refused)
            await expect(f"{told} reads past its policies", f"SET row_security = off; SELECT FROM {name}", refused)
            await connection.execute("RESET SESSION AUTHORIZATION")
        await connection.execute(f"SET LOCAL ROLE {service}_across; SET LOCAL koinonia.church_id = ''")
        across = 2 if name in catalogue.ACROSS else refused
        await expect(f"{name} as {service}_across", f"SELECT FROM {name}", across)
        await connection.execute("RESET ROLE")
        assert await connection.fetchval(f"SELECT count(*) FROM {name}") == 2
    assert faults == []


async def test_a_row_of_the_own_church_is_taken(
    connection: "asyncpg.Connection[asyncpg.Record]", probed: dict[str, str]
) -> None:
    taken = 0
    for name, insert in probed.items():
        service = f"koinonia_{name.partition('.')[0]}"
        if "INSERT" in await rights_on(connection, service, name):
            await connection.execute(f"SET LOCAL ROLE {service}; SET LOCAL koinonia.church_id = '{new_id()}'")
            church = UUID(await connection.fetchval("SELECT current_setting('koinonia.church_id')"))
            await connection.execute(row_of(insert, church))
            await connection.execute("RESET ROLE")
            taken += 1
    assert taken > 40


async def test_a_service_becomes_nothing_but_its_cross_church_role(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    for service in SERVICES:
        await connection.execute(f"SET SESSION AUTHORIZATION koinonia_{service}")
        for other in SERVICES:
            for kind in ("", "_across", "_owner"):
                role = f"koinonia_{other}{kind}"
                try:
                    async with connection.transaction():
                        await connection.execute(f"SET LOCAL ROLE {role}")
                        raise _Undo
                except _Undo:
                    became = True
                except asyncpg.InsufficientPrivilegeError:
                    became = False
                assert (service, role, became) == (service, role, other == service and kind != "_owner")
        await connection.execute("RESET SESSION AUTHORIZATION")


async def rights_on(connection: "asyncpg.Connection[asyncpg.Record]", role: str, table: str) -> set[str]:
    """What a role may do with a table, before any policy."""
    query = (
        "SELECT name FROM unnest(ARRAY['INSERT', 'UPDATE', 'DELETE']) AS name WHERE has_table_privilege($1, $2, name)"
    )
    return {row["name"] for row in await connection.fetch(query, role, table)}


class _Undo(Exception):
    """Takes back what a savepoint holds."""


async def test_no_trigger_joins_rows_as_they_are_with_rows_as_they_were(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    """A session keeps the plan of a trigger's first run, of one row perhaps: for thousands, such a join compares each
    with each. Both sides are summed, or taken from one another.
    """
    joined = r"(?:\mJOIN|,)\s+(?:ONLY\s+)?(?:before|after)\M"
    found = "SELECT proname FROM pg_proc WHERE prorettype = 'trigger'::regtype AND prosrc ~* $1"
    assert await connection.fetch(found, joined) == []
    await connection.execute(
        """
        CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN PERFORM FROM before JOIN after USING (id); RETURN NULL; END'
        """
    )
    assert [row["proname"] for row in await connection.fetch(found, joined)] == ["planted"]
