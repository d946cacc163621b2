"""Members, page by page: narrowed by the one index that does most, sorted by another's order, never counted through.

Each way to narrow and each order is a statement of its own, so that each has a plan of its own.
"""

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

import msgspec

from koinonia.api.members import Sort
from koinonia.db import Statement, Transaction, statement
from koinonia_messaging.store.members import MAY_BE_TEXTED, MEMBER_ROW, MemberRow, member_row

CANDIDATES = 1000
"""Members whom a word may narrow a list to. A list in which more have it finds some at once by walking in its order."""

_WORDS = 4  # of a search that are looked up; all of them are compared

Narrowing = Literal["all", "branch", "group", "named", "candidates"]
Place = tuple[UUID, str]
"""Where a page begins: after the member with this id and folded name."""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What may lead to a member: a member has one of these."""

    words: str  # of the name, casefolded; folded further by the database, as the names are
    external_id: str
    phone_index: bytes | None = None
    email_index: bytes | None = None


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Which members; all hold together."""

    search: Search | None = None
    branch_id: UUID | None = None
    group_id: UUID | None = None
    may_be_texted: bool | None = None
    deleted: bool = False


_FIND_REGION = statement("churches.find_region", "SELECT region FROM churches")


async def find_region(tx: Transaction) -> str | None:
    """Whose national form the church writes its phones in; None: the church is not known yet."""
    found: str | None = await tx.fetch_value(_FIND_REGION)
    return found


# Bounds stand in columns: an expression over another relation's column would not count as leakproof, and row-level
# security would keep it from the index. The word that the fewest have is the one to go by.
_FIND_CANDIDATES = statement(
    "members.find_candidates",
    f"""
    WITH wanted AS MATERIALIZED (
        SELECT word COLLATE "C" AS word, (word || chr(1114111)) COLLATE "C" AS beyond
        FROM string_to_table(folded($1), ' ') AS word
        WHERE word <> ''
        ORDER BY length(word) DESC
        LIMIT {_WORDS}
    ), found AS MATERIALIZED (
        SELECT ARRAY(
            SELECT member_id
            FROM member_words
            WHERE member_words.word >= wanted.word AND member_words.word < wanted.beyond
            LIMIT $3
        ) AS ids
        FROM wanted
    )
    SELECT
        coalesce((SELECT ids FROM found ORDER BY cardinality(ids) LIMIT 1), '{{}}')
        || ARRAY(SELECT id FROM members WHERE external_id = $2 AND deleted_at IS NULL) AS ids
    """,
)


async def find_candidates(tx: Transaction, search: Search) -> list[UUID] | None:
    """Everyone who can be meant by words or an external id, and some more; None: too many to tell."""
    row = await tx.fetch_row(_FIND_CANDIDATES, search.words, search.external_id, CANDIDATES + 1)
    ids: list[UUID] = row["ids"] if row is not None else []
    return ids if len(ids) <= CANDIDATES else None


_GREATEST_ID, _LEAST_ID = UUID(int=2**128 - 1), UUID(int=0)
# What an order goes on from, its columns, and the place before the first.
_ORDERS: dict[Sort, tuple[str, str, Place]] = {
    "-createdAt": ("members.id < $1", "members.id DESC", (_GREATEST_ID, "")),
    "createdAt": ("members.id > $1", "members.id", (_LEAST_ID, "")),
    "name": ("(members.name_words, members.id) > ($2, $1)", "members.name_words, members.id", (_LEAST_ID, "")),
    "-name": (
        "(members.name_words, members.id) < ($2, $1)",
        "members.name_words DESC, members.id DESC",
        (_GREATEST_ID, "\U0010ffff"),
    ),
}
_BRANCH = "($4::uuid IS NULL OR members.branch_id = $4)"
_GROUP = """($5::uuid IS NULL OR EXISTS (
        SELECT FROM group_members WHERE group_id = $5 AND group_members.member_id = members.id
    ))"""
_NO_CANDIDATES = "$11::uuid[] IS NULL"
_NARROWINGS: dict[Narrowing, tuple[str, str, str]] = {
    "all": (_BRANCH, _GROUP, _NO_CANDIDATES),
    "branch": ("members.branch_id = $4", _GROUP, _NO_CANDIDATES),
    "group": (_BRANCH, "$5::uuid IS NOT NULL", _NO_CANDIDATES),
    "named": (
        _BRANCH,
        _GROUP,
        f"""{_NO_CANDIDATES} AND members.id IN (
            SELECT id FROM members WHERE phone_index = $8 AND deleted_at IS NULL
            UNION ALL
            SELECT id FROM members WHERE email_index = $9 AND deleted_at IS NULL
            UNION ALL
            SELECT id FROM members WHERE external_id = $10 AND deleted_at IS NULL
        )""",
    ),
    "candidates": (_BRANCH, _GROUP, "members.id = ANY ($11::uuid[])"),
}
# OFFSET 0 keeps the planner to it: where nothing is known of a new group, it would walk the whole church.
_OF_GROUP = """
    (SELECT member_id FROM group_members WHERE group_id = $5 {after} ORDER BY {order} OFFSET 0) AS joined
    CROSS JOIN LATERAL (SELECT * FROM members WHERE members.id = joined.member_id OFFSET 0) AS members
"""
_THERE, _DELETED = "members.deleted_at IS NULL", "members.deleted_at IS NOT NULL AND members.merged_into IS NULL"


def _list_page(name: str, narrowing: Narrowing, sort: Sort, present: str) -> Statement:
    after, order, _ = _ORDERS[sort]
    branch, group, narrowed = _NARROWINGS[narrowing]
    source = "members"
    if narrowing == "group":
        by_id = sort in {"createdAt", "-createdAt"}  # then rows come in the list's order, and a page reads no more
        in_order = order.replace("members.id", "joined.member_id") if by_id else order
        source = _OF_GROUP.format(
            after=f"AND {after.replace('members.id', 'member_id')}" if by_id else "",
            order=order.replace("members.id", "member_id") if by_id else "member_id",
        )
        order = in_order
    return statement(
        name,
        f"""
        SELECT {MEMBER_ROW}
        FROM {source}
        WHERE {present}
            AND {after}
            AND $2::text IS NOT NULL  -- every statement takes the same values
            AND {branch}
            AND {group}
            AND {narrowed}
            AND ($6::boolean IS NULL OR ({MAY_BE_TEXTED}) = $6)
            -- Of a CASE the planner takes half to be true: where many have the words it is to walk in the order.
            AND ($7::text IS NULL OR CASE WHEN members.version < 0 THEN false ELSE
                members.phone_index = $8::bytea
                OR members.email_index = $9::bytea
                OR members.external_id = $10::text
                OR ' ' || members.name_words LIKE ALL ((
                    SELECT array_agg('% ' || word || '%')  -- folded words have no sign that LIKE knows
                    FROM string_to_table(folded($7), ' ') AS word
                    WHERE word <> ''
                )::text[])
            END)
        ORDER BY {order}
        LIMIT $3
        """,
    )


_LIST_PAGE: dict[tuple[Narrowing, Sort], Statement] = {
    (narrowing, sort): _list_page(f"members.list_{narrowing}", narrowing, sort, _THERE)
    for narrowing in _NARROWINGS
    for sort in _ORDERS
}
_LIST_DELETED: dict[Sort, Statement] = {
    sort: _list_page("members.list_deleted", "all", sort, _DELETED) for sort in _ORDERS
}


async def list_page(
    tx: Transaction,
    filters: Filters,
    limit: int,
    *,
    sort: Sort = "-createdAt",
    after: Place | None = None,
    candidates: Sequence[UUID] | None = None,
) -> list[MemberRow]:
    """Members from a place on. ``candidates``: who can be meant by the search at all, where that is known."""
    member_id, name = after or _ORDERS[sort][2]
    search = filters.search
    sql = _LIST_DELETED[sort] if filters.deleted else _LIST_PAGE[_narrowing(filters, candidates), sort]
    rows = await tx.fetch(
        sql,
        member_id,
        name,
        limit,
        filters.branch_id,
        filters.group_id,
        filters.may_be_texted,
        search and search.words,
        search and search.phone_index,
        search and search.email_index,
        search and search.external_id,
        candidates,
    )
    return [member_row(row) for row in rows]


def _narrowing(filters: Filters, candidates: Sequence[UUID] | None) -> Narrowing:
    if candidates is not None:
        return "candidates"
    if filters.search is not None and (filters.search.phone_index or filters.search.email_index):
        return "named"
    if filters.group_id is not None:
        return "group"
    return "all" if filters.branch_id is None else "branch"
