"""What the catalogue of a migrated database must say: no church sees another's rows, no role leaves its schema.

``faults`` tells in sentences what says otherwise. The lists name what is allowed beyond the rule; something new that is
meant so is added there.
"""

from collections.abc import Iterator

import asyncpg

from koinonia.db.roles import SERVICES

SHARED = frozenset(
    {
        *(f"{service}.{table}" for service in SERVICES for table in ("inbox", "schema_migrations")),
        "billing.payment_reports",
        "billing.plans",
        "compliance.own_numbers",
        "delivery.carrier_account",
        "delivery.freshness",
        "delivery.overdue_scan",
        "delivery.parked_receipts",
    }
)
"""Tables that hold nothing of a church."""

ACROSS = frozenset(
    {
        *(f"{service}.{table}" for service in SERVICES for table in ("outbox", "parked", "idempotency_keys")),
        *(f"gateway.{table}" for table in ("churches", "admins", "sessions", "refresh_tokens", "api_keys", "numbers")),
        "gateway.invitations",
        "gateway.password_resets",
        "gateway.phone_codes",
        "messaging.messages",
        "messaging.message_errors",
        *(f"messaging.{table}" for table in ("day_figures", "message_branches", "branch_figures")),
        "messaging.recurring_messages",
        "messaging.imports",
        "messaging.bulk_texts",
        *(f"delivery.{table}" for table in ("numbers", "number_orders", "broadcasts", "recipients", "work")),
        "delivery.lanes",
        "delivery.retentions",
        "delivery.test_work",
        "delivery.emails",
        *(f"delivery.{table}" for table in ("problems", "suppressions", "holds", "consents", "trail")),
        "conversation.conversation_messages",
        *(f"billing.{table}" for table in ("subscriptions", "reservations", "usage_ledger")),
        "compliance.audit_log",
    }
)
"""Tables that the service's cross-church role may touch."""

DEFINERS: frozenset[str] = frozenset()
"""Functions that run as their owner, as ``schema.name(arguments)``."""

TENANT = "(church_id = (NULLIF(current_setting('koinonia.church_id'::text, true), ''::text))::uuid)"

# What the queries below begin with: our roles with the schema that is each one's home, and the schemas of a database.
_NAMED = """
WITH
    role AS (
        SELECT pg_roles.oid, rolname::text AS name, service AS home, kind
        FROM unnest($1::text[]) AS service
        CROSS JOIN (VALUES ('login', ''), ('across', '_across'), ('owner', '_owner')) AS kinds (kind, ending)
        JOIN pg_roles ON rolname = 'koinonia_' || service || ending
    ),
    place AS (
        SELECT oid, nspname::text AS name, nspname = ANY ($1) AS is_ours
        FROM pg_namespace
        WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)'
    ),
    relation AS (
        SELECT
            class.oid, class.oid::regclass::text AS name, relkind AS kind, place.name AS home, place.is_ours,
            relispartition AS is_partition, reloptions AS options, relowner AS owner
        FROM pg_class AS class
        JOIN place ON place.oid = class.relnamespace
        WHERE NOT EXISTS (SELECT FROM pg_depend WHERE objid = class.oid AND deptype = 'e')  -- an extension's
    ),
    function AS (
        SELECT pg_proc.oid, pg_proc.oid::regprocedure::text AS name, place.name AS home, is_ours, prosecdef, proconfig
        FROM pg_proc
        JOIN place ON place.oid = pronamespace
        WHERE NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
    ),
    definer AS (SELECT unnest($2::text[]) AS name),
    held AS (
        SELECT role.name AS role, role.home AS role_home, role.kind AS role_kind, relation.*
        FROM role
        CROSS JOIN relation
        WHERE relation.kind IN ('r', 'p', 'v', 'm', 'f') AND (
            has_table_privilege(role.oid, relation.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
            OR has_any_column_privilege(role.oid, relation.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
        )
    )
"""

_TABLES = """
SELECT
    relation.name, relation.home, relation.is_partition, pg_get_userbyid(relation.owner)::text AS owner,
    class.relname::text AS table_name,
    class.relrowsecurity AS enabled,
    class.relforcerowsecurity AS forced,
    EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = class.oid AND attname = 'church_id' AND NOT attisdropped
    ) AS is_tenants
FROM relation
JOIN pg_class AS class ON class.oid = relation.oid
WHERE relation.is_ours AND relation.kind IN ('r', 'p', 'f')
ORDER BY relation.name
"""

_POLICIES = """
SELECT
    schemaname || '.' || tablename AS table_name, policyname::text AS name, permissive, cmd, roles::text[] AS roles,
    qual, with_check
FROM pg_policies
JOIN place ON place.name = schemaname
WHERE place.is_ours
"""

_NONE_OF = {
    "a view without security_invoker": """
        SELECT name
        FROM relation
        WHERE is_ours AND kind = 'v' AND coalesce(NOT options && '{security_invoker=true,security_invoker=on}', true)
        """,
    "a materialized view, which no policy guards": "SELECT name FROM relation WHERE is_ours AND kind = 'm'",
    "a role that may more than ours should": """
        SELECT name
        FROM role JOIN pg_roles USING (oid)
        WHERE rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication
        """,
    "a role that passes row-level security, or is called like ours and is none": r"""
        SELECT rolname::text AS name
        FROM pg_roles
        WHERE (rolbypassrls AND NOT rolsuper)
            OR (rolname LIKE 'koinonia\_%' AND rolname NOT IN (SELECT role.name FROM role))
        """,
    "a role that can log in, or inherits, and should not": """
        SELECT name
        FROM role JOIN pg_roles USING (oid)
        WHERE rolcanlogin <> (kind = 'login') OR (kind = 'login' AND rolinherit)
        """,
    "a membership that is not named": """
        SELECT concat(member.rolname, ' in ', into_role.rolname, CASE WHEN admin_option THEN ' as its admin' END)
        FROM pg_auth_members
        JOIN pg_roles AS member ON member.oid = pg_auth_members.member
        JOIN pg_roles AS into_role ON into_role.oid = roleid
        LEFT JOIN role AS ours ON ours.oid = member.oid
        LEFT JOIN role AS wanted ON wanted.oid = roleid
        WHERE CASE
            WHEN ours.oid IS NULL THEN wanted.oid IS NOT NULL AND NOT member.rolsuper AND NOT member.rolcreaterole
            WHEN admin_option THEN true
            ELSE (ours.kind = 'login' AND wanted.kind = 'across' AND ours.home = wanted.home) IS NOT TRUE
        END
        """,
    "a right on another's table": "SELECT role || ' on ' || name FROM held WHERE role_home <> home",
    "a right on a partition, which no policy guards": """
        SELECT role || ' on ' || name FROM held WHERE is_ours AND is_partition AND role_kind <> 'owner'
        """,
    "a right that passes by the policies": """
        SELECT role || ' on ' || name
        FROM held
        WHERE role_kind <> 'owner' AND has_table_privilege(role, oid, 'TRUNCATE, REFERENCES, TRIGGER')
        """,
    "a right on another's sequence": """
        SELECT role.name || ' on ' || relation.name
        FROM role JOIN relation ON relation.home <> role.home
        WHERE CASE  -- in this order: a table has no such right to ask for
            WHEN relation.kind = 'S' THEN has_sequence_privilege(role.oid, relation.oid, 'USAGE, SELECT, UPDATE')
        END
        """,
    "a right on a schema": """
        SELECT role.name || ' on ' || nspname
        FROM role
        CROSS JOIN pg_namespace
        LEFT JOIN place ON place.oid = pg_namespace.oid
        WHERE CASE
            WHEN nspname = home THEN kind <> 'owner' AND has_schema_privilege(role.oid, pg_namespace.oid, 'CREATE')
            WHEN place.oid IS NULL THEN has_schema_privilege(role.oid, pg_namespace.oid, 'CREATE')  -- Postgres's own
            ELSE has_schema_privilege(role.oid, pg_namespace.oid, 'CREATE, USAGE')
        END
        """,
    "a right on another's function": """
        SELECT role.name || ' on ' || function.name
        FROM role JOIN function ON function.home <> role.home
        WHERE has_function_privilege(role.oid, function.oid, 'EXECUTE')
        """,
    "a right on another's type": """
        SELECT role.name || ' on ' || format_type(pg_type.oid, NULL)
        FROM role
        JOIN place ON place.name <> role.home
        JOIN pg_type ON typnamespace = place.oid
        LEFT JOIN pg_class AS class ON class.oid = typrelid
        WHERE (class.oid IS NULL OR class.relkind = 'c') AND typelem = 0  -- a table's own, and arrays, go with another
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_type.oid AND deptype = 'e')
            AND has_type_privilege(role.oid, pg_type.oid, 'USAGE')
        """,
    "a right on the database": """
        SELECT name FROM role WHERE has_database_privilege(oid, current_database(), 'CREATE, TEMPORARY')
        """,
    "default privileges": """
        SELECT concat(defaclnamespace::regnamespace, ' ', pg_get_userbyid(defaclrole)) FROM pg_default_acl
        """,
    "an object of a role that owns none": """
        SELECT role.name || ' ' || relation.name
        FROM role JOIN relation ON relation.owner = role.oid
        WHERE role.kind <> 'owner'
        """,
    "a function without a fixed search_path": """
        SELECT name
        FROM function
        WHERE is_ours AND NOT EXISTS (SELECT FROM unnest(proconfig) AS setting WHERE setting LIKE 'search_path=%')
        """,
    "a SECURITY DEFINER function that is not named": """
        SELECT name FROM function WHERE prosecdef AND name NOT IN (SELECT name FROM definer)
        """,
}


async def faults(connection: "asyncpg.Connection[asyncpg.Record]") -> list[str]:
    """What is wrong, a sentence each. ``connection`` is an administrator's."""
    found = []
    policies: dict[str, list[asyncpg.Record]] = {}
    for row in await _fetch(connection, _POLICIES):
        policies.setdefault(row["table_name"], []).append(row)
    for table in await _fetch(connection, _TABLES):
        own = policies.get(table["name"], [])
        found += [f"{table['name']}: {fault}" for fault in (*_of_table(table), *_of_policies(table, own))]
    for what, query in _NONE_OF.items():
        found += [f"{what}: {row[0]}" for row in await _fetch(connection, query)]
    return found


async def tenant_tables(connection: "asyncpg.Connection[asyncpg.Record]") -> list[tuple[str, str]]:
    """Each church's table, partitions left out: its schema and its name."""
    rows = await _fetch(connection, _TABLES)
    return [(row["home"], row["table_name"]) for row in rows if row["is_tenants"] and not row["is_partition"]]


async def _fetch(connection: "asyncpg.Connection[asyncpg.Record]", query: str) -> list[asyncpg.Record]:
    return await connection.fetch(_NAMED + query, SERVICES, sorted(DEFINERS))


def _of_table(table: asyncpg.Record) -> Iterator[str]:
    if table["owner"] != f"koinonia_{table['home']}_owner":
        yield f"is owned by {table['owner']}"
    if table["name"] in SHARED:
        return
    if not table["is_tenants"]:
        yield "has no church_id and is not named as shared"
    if not table["enabled"]:
        yield "has no row-level security"
    if not table["forced"]:
        yield "does not force row-level security"


def _of_policies(table: asyncpg.Record, policies: list[asyncpg.Record]) -> Iterator[str]:
    service = f"koinonia_{table['home']}"
    wanted = {}
    if not table["is_partition"] and table["name"] not in SHARED:
        wanted = {"owner": (f"{service}_owner", "true"), "tenant": (service, TENANT)}
    if table["name"] in ACROSS:
        wanted["across"] = (f"{service}_across", "true")
    for policy in policies:
        if policy["name"] not in wanted:
            yield f"has a policy {policy['name']} that is not named"
            continue
        role, rule = wanted.pop(policy["name"])
        said = (policy["permissive"], policy["cmd"], policy["roles"], policy["qual"], policy["with_check"])
        if said != ("PERMISSIVE", "ALL", [role], rule, rule):
            yield f"has another policy {policy['name']} than the rule"
    for name in wanted:
        yield f"has no policy {name}"
