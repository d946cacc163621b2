"""The table of the usual ways, and their statements."""

import re
from collections.abc import Iterator
from uuid import UUID

from bench.work import TEXT, Work, phone
from koinonia.ids import new_id

CREATE = """
CREATE TABLE IF NOT EXISTS recipients (
    id uuid PRIMARY KEY,
    phone text NOT NULL,
    content text NOT NULL,
    status text NOT NULL DEFAULT 'queued',
    carrier_id text,
    sent_at timestamptz,
    delivered_at timestamptz
)
"""
EMPTY = "TRUNCATE recipients"
INSERT = "INSERT INTO recipients (id, phone, content) VALUES ($1, $2, $3)"
MARK_SENT = """
UPDATE recipients
SET status = CASE status WHEN 'queued' THEN 'sent' ELSE status END, carrier_id = $2, sent_at = now()
WHERE id = $1
"""
APPLY_SENT = "UPDATE recipients SET status = CASE status WHEN 'queued' THEN 'sent' ELSE status END WHERE id = $1"
APPLY_DELIVERED = "UPDATE recipients SET status = 'delivered', delivered_at = now() WHERE id = $1"
COUNT = "SELECT count(*) FROM recipients WHERE status = 'delivered' AND sent_at IS NOT NULL"
LAST_COMMIT = "SELECT extract(epoch FROM max(pg_xact_commit_timestamp(xmin)))::float8 FROM recipients"


def psycopg_style(sql: str) -> str:
    """The same statement with psycopg's named places: ``$1`` is ``%(p1)s``."""
    return re.sub(r"\$(\d)", r"%(p\1)s", sql)


def places(*values: object) -> dict[str, object]:
    """Values for `psycopg_style`."""
    return {f"p{number}": value for number, value in enumerate(values, start=1)}


def rows(work: Work) -> Iterator[tuple[UUID, str, str]]:
    """A new row for each person."""
    return ((new_id(), phone(number), TEXT) for number in range(work.people))
