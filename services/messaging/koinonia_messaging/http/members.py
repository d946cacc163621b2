"""Requests about members, one by one. Addresses are opened here, for people who may see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from msgspec import Meta

from koinonia.api import Endpoint, NoQuery, Page, PageQuery
from koinonia.api import members as api
from koinonia.api.members import (
    LikelyDouble,
    Member,
    MemberPatch,
    MemberQuery,
    MemberRequest,
    MergeRequest,
)
from koinonia.db import Transaction
from koinonia.db.cursor import decode_cursor
from koinonia.paging import page_of
from koinonia.security import Keys
from koinonia.web import Call, Handler
from koinonia_messaging import finding, members, merging
from koinonia_messaging.store import doubles
from koinonia_messaging.store import members as member_store
from koinonia_messaging.store.member_lists import Place
from koinonia_messaging.store.members import MemberRow

FoldedName = Annotated[str, Meta(pattern=r"\A[^\0]*\Z")]  # Postgres takes no text with a NUL
_BY_NAME = frozenset({"name", "-name"})


@dataclass(frozen=True, slots=True)
class Members:
    """What the handlers need."""

    keys: Keys

    def handlers(self) -> Mapping[Endpoint, Handler]:
        """The handlers by endpoint."""
        return {
            api.LIST: Handler(self.list_page),
            api.GET: Handler(self.get),
            api.CREATE: Handler(self.create, rebuild=self.rebuild),
            api.PATCH: Handler(self.patch, rebuild=self.rebuild),
            api.DELETE: Handler(self.delete),
            api.LIST_DOUBLES: Handler(self.list_doubles),
            api.MERGE: Handler(self.merge, rebuild=self.rebuild),
            api.RESTORE: Handler(self.restore, rebuild=self.rebuild),
        }

    async def list_page(self, call: Call[None, MemberQuery], tx: Transaction) -> Page[Member]:
        query = call.query
        listing, after = _place(query)
        rows = await finding.find(tx, call.identity, query, self.keys, after=after)
        return page_of(
            listing,
            query,
            rows,
            show=lambda row: shown(row, tx.tenant, self.keys),
            key=lambda row: (row.person.id, row.name_words) if query.sort in _BY_NAME else (row.person.id,),
        )

    async def get(self, call: Call[None, NoQuery], tx: Transaction) -> Member:
        return shown(await members.fetch(tx, call.path["id"]), tx.tenant, self.keys)

    async def create(self, call: Call[MemberRequest, NoQuery], tx: Transaction) -> Member:
        row = await members.create(tx, call.identity, call.body, self.keys)
        call.made(row.person.id)
        return shown(row, tx.tenant, self.keys)

    async def patch(self, call: Call[MemberPatch, NoQuery], tx: Transaction) -> Member:
        call.made(call.path["id"])
        row = await members.change(tx, call.identity, call.path["id"], call.body, self.keys)
        return shown(row, tx.tenant, self.keys)

    async def delete(self, call: Call[None, NoQuery], tx: Transaction) -> None:
        await members.delete(tx, call.identity, call.path["id"])

    async def list_doubles(self, call: Call[None, PageQuery], tx: Transaction) -> Page[LikelyDouble]:
        listing, cursor = api.LIST_DOUBLES.name, call.query.cursor
        after = None if cursor is None else decode_cursor(listing, cursor, tuple[doubles.Reason, UUID])
        pairs, looked_to = await doubles.list_page(tx, after, call.query.limit + 1)
        rows = await member_store.find_rows(tx, [each for pair in pairs for each in (pair.older_id, pair.newer_id)])
        return page_of(
            listing,
            call.query,
            pairs,
            show=lambda pair: LikelyDouble(
                reason=pair.reason,
                members=[shown(rows[each], tx.tenant, self.keys) for each in (pair.older_id, pair.newer_id)],
            ),
            key=lambda pair: (pair.reason, pair.newer_id),
            looked_to=looked_to,
        )

    async def merge(self, call: Call[MergeRequest, NoQuery], tx: Transaction) -> Member:
        call.made(call.path["id"])
        row = await merging.merge(tx, call.identity, call.path["id"], call.body.member_id)
        return shown(row, tx.tenant, self.keys)

    async def restore(self, call: Call[None, NoQuery], tx: Transaction) -> Member:
        call.made(call.path["id"])
        return shown(await members.restore(tx, call.identity, call.path["id"]), tx.tenant, self.keys)

    async def rebuild(self, _call: Call[object, NoQuery], tx: Transaction, made_id: UUID) -> Member:
        return shown(await members.fetch(tx, made_id), tx.tenant, self.keys)


def shown(row: MemberRow, church_id: UUID, keys: Keys) -> Member:
    """A member as people see them; ``optInSms`` is false where the number has opted out."""
    person = row.person
    return Member(
        id=person.id,
        first_name=person.first_name,
        last_name=person.last_name,
        phone=keys.decrypt(person.phone.ciphertext, church_id, "phone"),
        email=keys.decrypt(person.email.ciphertext, church_id, "email") if person.email else None,
        branch_id=person.branch_id,
        group_ids=row.group_ids,
        opt_in_sms=row.may_be_texted,
        external_id=person.external_id,
        custom_fields=person.custom_fields,
        created_at=row.created_at,
        updated_at=row.updated_at,
        deleted_at=row.deleted_at,
    )


def _place(query: MemberQuery) -> tuple[str, Place | None]:
    """The list that a page is of, and where it begins. A cursor is of one order alone."""
    listing = api.LIST.name if query.sort == "-createdAt" else f"{api.LIST.name} {query.sort}"
    if query.cursor is None:
        return listing, None
    if query.sort in _BY_NAME:
        return listing, decode_cursor(listing, query.cursor, tuple[UUID, FoldedName])
    (last,) = decode_cursor(listing, query.cursor, tuple[UUID])
    return listing, (last, "")
