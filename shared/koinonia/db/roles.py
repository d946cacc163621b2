"""The Postgres roles of a service, and its schema.

``koinonia_<service>_owner`` owns the schema and cannot log in; ``koinonia_<service>`` is what the service logs in as;
``koinonia_<service>_across`` is what it becomes, for one transaction, in named work across churches. The login role
does not inherit from it (NOINHERIT), or its policies would always hold. None may bypass row-level security, and none
has a right outside its schema: what Postgres gives to everybody in a database is taken back.
"""

import asyncio
import random
from contextlib import suppress

import asyncpg

from koinonia.db.statement import statement

SERVICES = ("gateway", "messaging", "delivery", "conversation", "billing", "compliance")

_SETTINGS = {
    # A plan made while a table is empty keeps its sequential scan for as long as the connection lives.
    "plan_cache_mode": "force_custom_plan",
    "random_page_cost": "1.1",
    "TimeZone": "UTC",
    # Compiling a plan takes longer than any statement of a service.
    "jit": "off",
}
_SETTINGS_OF = {
    # A page of a list is read in the order of its index and ends early. Where Postgres guesses that few rows are in the
    # range (of ids made a moment ago it knows nothing), it would read all of them first, and sort.
    "delivery": {"enable_bitmapscan": "off"},
}

_MAKE_ROLES = """
DO $$
DECLARE
    role record;
BEGIN
    FOR role IN
        SELECT *
        FROM (VALUES
            ('koinonia_{service}_owner', 'NOLOGIN'),
            ('koinonia_{service}_across', 'NOLOGIN'),
            ('koinonia_{service}', 'LOGIN NOINHERIT')
        ) AS wanted (name, attributes)
        WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name)
    LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I %s', role.name, role.attributes);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- roles belong to the whole cluster: another database's migration made it just now
        END;
    END LOOP;
    IF NOT pg_has_role('koinonia_{service}', 'koinonia_{service}_across', 'MEMBER') THEN
        GRANT koinonia_{service}_across TO koinonia_{service};
    END IF;
    IF NOT pg_has_role(current_user, 'koinonia_{service}_owner', 'MEMBER') THEN
        EXECUTE format('GRANT koinonia_{service}_owner TO %I', current_user);
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('koinonia.rights', 0));
    IF has_database_privilege('public', current_database(), 'CREATE, TEMPORARY') THEN
        EXECUTE format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    END IF;
    IF has_schema_privilege('public', to_regnamespace('public'), 'CREATE, USAGE') THEN
        REVOKE ALL ON SCHEMA public FROM PUBLIC;
    END IF;
END
$$;
CREATE SCHEMA IF NOT EXISTS {service} AUTHORIZATION koinonia_{service}_owner;
GRANT USAGE ON SCHEMA {service} TO koinonia_{service}, koinonia_{service}_across;
"""

_TRIES = 10
_FETCH_SETTINGS = statement("roles.fetch_settings", "SELECT coalesce(rolconfig, '{}') FROM pg_roles WHERE rolname = $1")


async def ensure_roles(connection: "asyncpg.Connection[asyncpg.Record]", service: str, password: str | None) -> None:
    """Make the roles and the schema of a service where they are missing; ``password`` of the login role, if it has one.

    ``connection`` is an administrator's, outside a transaction.
    """
    if service not in SERVICES:
        raise ValueError(f"no service is called {service!r}")
    for _ in range(_TRIES):
        # Roles are the whole server's, and no lock reaches over its databases: another is prepared at the same time.
        with suppress(asyncpg.UniqueViolationError, asyncpg.InternalServerError):  # "tuple concurrently updated"
            await _ensure(connection, service, password)
            return
        await asyncio.sleep(random.uniform(0.05, 0.2))
    await _ensure(connection, service, password)


async def _ensure(connection: "asyncpg.Connection[asyncpg.Record]", service: str, password: str | None) -> None:
    await connection.execute(_MAKE_ROLES.format(service=service))
    wanted = {"search_path": service, **_SETTINGS, **_SETTINGS_OF.get(service, {})}
    present = set(await connection.fetchval(_FETCH_SETTINGS.text, f"koinonia_{service}"))
    for name, value in wanted.items():
        if f"{name}={value}" not in present:
            await connection.execute(f"ALTER ROLE koinonia_{service} SET {name} = '{value}'")
    if password is not None:
        quoted = await connection.fetchval("SELECT quote_literal($1)", password)
        await connection.execute(f"ALTER ROLE koinonia_{service} PASSWORD {quoted}")
