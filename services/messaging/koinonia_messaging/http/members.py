"""Requests about members, one by one and by import. Addresses are opened here, for people who may see them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

from koinonia.api import Endpoint, NoQuery, Page
from koinonia.api import members as api
from koinonia.api.members import (
    ImportResult,
    Member,
    MemberImportRequest,
    MemberPatch,
    MemberQuery,
    MemberRequest,
)
from koinonia.db import Transaction
from koinonia.errors import NotFound
from koinonia.paging import last_id
from koinonia.security import Keys
from koinonia.security.phones import PhoneInvalid, normalise
from koinonia.web import Call, Handler
from koinonia_messaging import imports, members
from koinonia_messaging.domain.people import name_key
from koinonia_messaging.domain.rows import Row, csv_rows
from koinonia_messaging.http.pages import like_pattern, page_by_id
from koinonia_messaging.store import imports as import_store
from koinonia_messaging.store import members as member_store
from koinonia_messaging.store.members import MemberRow

IMPORT_SECONDS = 120.0  # all rows go in together or none; less than the gateway waits for a large request


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
            api.IMPORT: Handler(self.import_many, rebuild=self.rebuild_import, timeout_seconds=IMPORT_SECONDS),
        }

    async def list_page(self, call: Call[None, MemberQuery], tx: Transaction) -> Page[Member]:
        query = call.query
        phone_index = self._searched_phone(query.search, tx.tenant)
        by_name = query.search is not None and phone_index is None
        rows = await member_store.list_page(
            tx,
            last_id(api.LIST.name, query),
            query.limit + 1,
            name_pattern=like_pattern(name_key(query.search or "", "")) if by_name else None,
            phone_index=phone_index,
            branch_id=query.branch_id,
            group_id=query.group_id,
            may_be_texted=query.opt_in,
        )
        return page_by_id(api.LIST.name, query, [shown(row, tx.tenant, self.keys) for row in rows])

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

    async def import_many(self, call: Call[MemberImportRequest | str, NoQuery], tx: Transaction) -> ImportResult:
        rows, group_ids = _rows(call.body)
        import_id, result = await imports.run(tx, call.identity, rows, group_ids, self.keys)
        call.made(import_id)
        return result

    async def rebuild(self, _call: Call[object, NoQuery], tx: Transaction, made_id: UUID) -> Member:
        return shown(await members.fetch(tx, made_id), tx.tenant, self.keys)

    async def rebuild_import(self, _call: Call[object, NoQuery], tx: Transaction, made_id: UUID) -> ImportResult:
        result = await import_store.find(tx, made_id)
        if result is None:
            raise NotFound
        return result

    def _searched_phone(self, search: str | None, church_id: UUID) -> bytes | None:
        if search is None:
            return None
        try:
            return self.keys.index(normalise(search), church_id, "phone")
        except PhoneInvalid:
            return None


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
    )


def _rows(body: MemberImportRequest | str) -> tuple[Iterator[Row], list[UUID]]:
    if isinstance(body, str):
        return csv_rows(body), []
    return enumerate(body.members, start=1), body.group_ids
