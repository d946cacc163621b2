"""What an export needs to know of all members before it reads them page by page."""

from koinonia.db import Transaction, statement

MOST_CUSTOM_FIELDS = 1000

_LIST_CUSTOM_FIELDS = statement(
    "exports.list_custom_fields",
    """
    SELECT DISTINCT name
    FROM members, jsonb_object_keys(custom_fields) AS name
    WHERE deleted_at IS NULL
    ORDER BY name
    LIMIT $1
    """,
)


async def list_custom_fields(tx: Transaction) -> list[str]:
    """The names of the custom fields that the church's members have, sorted; one more than the most if there are."""
    return [row["name"] for row in await tx.fetch(_LIST_CUSTOM_FIELDS, MOST_CUSTOM_FIELDS + 1)]
