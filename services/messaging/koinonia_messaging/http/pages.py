"""Pages of lists that are sorted by id, newest first."""

from collections.abc import Sequence
from typing import Protocol, TypeVar
from uuid import UUID

from koinonia.api import Page, PageQuery
from koinonia.paging import page_of


class HasId(Protocol):
    """Anything that has an id to go on from."""

    @property
    def id(self) -> UUID: ...


ItemT = TypeVar("ItemT", bound=HasId)


def page_by_id(listing: str, query: PageQuery, found: Sequence[ItemT]) -> Page[ItemT]:
    """The page out of ``limit + 1`` items that were asked for."""
    return page_of(listing, query, found, show=lambda item: item, key=lambda item: (item.id,))


def like_pattern(text: str) -> str:
    """The LIKE pattern for texts that contain ``text``."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
