"""Pages of lists: one row more than is shown is asked for, and tells whether there is another page."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from koinonia.api.common import Page, PageQuery
from koinonia.db.cursor import decode_cursor, encode_cursor

RowT = TypeVar("RowT")
ItemT = TypeVar("ItemT")


def last_id(listing: str, query: PageQuery) -> UUID | None:
    """The id that the page before ended with, of a list that is sorted by id alone.

    Raises:
        ValidationFailed: the cursor is none of this list.
    """
    return None if query.cursor is None else decode_cursor(listing, query.cursor, tuple[UUID])[0]


def page_of(
    listing: str,
    query: PageQuery,
    rows: Sequence[RowT],
    *,
    show: Callable[[RowT], ItemT],
    key: Callable[[RowT], tuple[Any, ...]],
    looked_to: tuple[Any, ...] | None = None,
) -> Page[ItemT]:
    """The page out of ``limit + 1`` rows that were asked for; ``key`` gives a row's sort keys.

    ``looked_to``: the sort keys up to which rows were looked at, where that ended before the page was full.
    """
    shown = rows[: query.limit]
    last = key(shown[-1]) if len(rows) > query.limit else looked_to
    return Page(
        data=[show(row) for row in shown],
        has_more=last is not None,
        next_cursor=None if last is None else encode_cursor(listing, last),
    )
