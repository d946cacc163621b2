"""Who somebody was that did something, by id: also who has left, and keys that were revoked."""

from collections.abc import Sequence
from uuid import UUID

from koinonia.api.messages import Actor
from koinonia.db import Transaction, statement

_LIST = statement(
    "actors.list",
    """
    SELECT id, 'admin' AS kind, first_name || ' ' || last_name AS name
    FROM admins
    WHERE id = ANY ($1::uuid[]) AND church_id = $2
    UNION ALL
    SELECT id, 'api_key' AS kind, 'The API key “' || name || '”' AS name
    FROM api_keys
    WHERE id = ANY ($1::uuid[]) AND church_id = $2
    """,
)


async def list_names(tx: Transaction, actor_ids: Sequence[UUID]) -> dict[UUID, Actor]:
    """Those of the church among them."""
    rows = await tx.fetch(_LIST, list(actor_ids), tx.tenant)
    return {row["id"]: Actor(id=row["id"], kind=row["kind"], name=row["name"]) for row in rows}
