"""Templates, as rows: a version for each text that one ever had. Versions stay when their template is deleted."""

from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from koinonia.db import Transaction, statement
from koinonia_messaging.domain.approvals import SendingRules
from koinonia_messaging.store.projections import RULES, rules_of

_INSERT = statement(
    "templates.insert",
    """
    WITH made AS (
        INSERT INTO templates (id, church_id, name, version, created_at, updated_at)
        VALUES ($1, $2, $3, 1, $5, $5)
        ON CONFLICT DO NOTHING
        RETURNING id, church_id, version, created_at
    )
    INSERT INTO template_versions (template_id, church_id, version, content, created_at)
    SELECT id, church_id, version, $4, created_at
    FROM made
    """,
)


async def insert(tx: Transaction, template_id: UUID, *, name: str, content: str, at: datetime) -> bool:
    """Add a template at its first version; False when its name is taken."""
    return await tx.execute(_INSERT, template_id, tx.tenant, name, content, at) > 0


_SELECT = """
    SELECT templates.id, name, content, version, templates.created_at, updated_at
    FROM templates
    JOIN template_versions USING (version)
    WHERE template_versions.template_id = templates.id AND deleted_at IS NULL"""
_FIND = statement("templates.find", f"{_SELECT} AND templates.id = $1")


async def find(tx: Transaction, template_id: UUID) -> asyncpg.Record | None:
    """A template with its newest text."""
    return await tx.fetch_row(_FIND, template_id)


_LIST_PAGE = statement(
    "templates.list_page",
    f"{_SELECT} AND ($1::uuid IS NULL OR templates.id < $1) ORDER BY templates.id DESC LIMIT $2",
)


async def list_page(tx: Transaction, before: UUID | None, limit: int) -> list[asyncpg.Record]:
    """Templates, newest first, from after ``before`` on."""
    return list(await tx.fetch(_LIST_PAGE, before, limit))


_UPDATE = statement(
    "templates.update",
    """
    WITH changed AS (
        UPDATE templates
        SET name = coalesce($2, name), version = version + ($3::text IS NOT NULL)::int, updated_at = $4
        WHERE id = $1 AND deleted_at IS NULL
        RETURNING id, church_id, version
    ), written AS (
        INSERT INTO template_versions (template_id, church_id, version, content, created_at)
        SELECT id, church_id, version, $3, $4
        FROM changed
        WHERE $3 IS NOT NULL
    )
    SELECT id FROM changed
    """,
)


async def update(tx: Transaction, template_id: UUID, *, name: str | None, content: str | None, at: datetime) -> bool:
    """Change a template, with a new version where its text changes; False when there is none.

    Raises:
        asyncpg.UniqueViolationError: the name is taken.
    """
    return await tx.fetch_value(_UPDATE, template_id, name, content, at) is not None


_DELETE = statement("templates.delete", "UPDATE templates SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL")


async def delete(tx: Transaction, template_id: UUID, at: datetime) -> bool:
    """Delete a template; its versions stay for the messages that used them."""
    return await tx.execute(_DELETE, template_id, at) > 0


_FIND_KNOWN_FIELDS = statement(
    "templates.find_known_fields",
    """
    SELECT name
    FROM unnest($1::text[]) AS field (name)
    WHERE EXISTS (
        SELECT FROM members WHERE deleted_at IS NULL AND custom_fields ->> field.name <> ''
    )
    """,
)


async def find_known_fields(tx: Transaction, names: list[str]) -> set[str]:
    """Those of the custom fields that somebody in the church has a value for."""
    return {row["name"] for row in await tx.fetch(_FIND_KNOWN_FIELDS, names)} if names else set()


class Source(msgspec.Struct, frozen=True):
    """What a church's texts are made of, besides what is asked for."""

    church_name: str
    opt_out_line: str | None
    content: str | None  # of the template; None: there is no such template
    version: int | None
    rules: SendingRules


_FIND_SOURCE = statement(
    "templates.find_source",
    f"""
    SELECT
        coalesce(churches.name, '') AS church_name, opt_out_line, content, template_versions.version, {RULES}
    FROM (SELECT $1::uuid AS template_id) AS asked
    LEFT JOIN churches ON true
    LEFT JOIN (templates JOIN template_versions USING (version))
        ON templates.id = asked.template_id
        AND template_versions.template_id = asked.template_id
        AND deleted_at IS NULL
    """,
)


async def find_source(tx: Transaction, template_id: UUID | None) -> Source:
    """The church, and the newest text of a template."""
    row = await tx.fetch_row(_FIND_SOURCE, template_id)
    assert row is not None, "outer joins to one row give one"  # noqa: S101
    return Source(row["church_name"], row["opt_out_line"], row["content"], row["version"], rules_of(row))
