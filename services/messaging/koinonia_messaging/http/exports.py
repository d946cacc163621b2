"""Members as a table that an import takes again."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from aiohttp import web

from koinonia.api import Endpoint
from koinonia.api import members as api
from koinonia.api.members import ExportQuery, Member
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Database
from koinonia.errors import AuthenticationFailed, Conflict
from koinonia.security import Identity, Keys
from koinonia.web import Raw, decoding
from koinonia.web.tables import send_table
from koinonia_messaging.domain.columns import CUSTOM
from koinonia_messaging.http.members import shown
from koinonia_messaging.store import exports as export_store
from koinonia_messaging.store import member_lists
from koinonia_messaging.store.member_lists import Filters, Place
from koinonia_messaging.store.members import MemberRow

PAGE_MEMBERS = 500

_HEADER = ("firstName", "lastName", "phone", "email", "branchId", "groupIds", "optInSms", "externalId")


@dataclass(frozen=True, slots=True)
class Exports:
    """What the handler needs."""

    database: Database
    keys: Keys

    def handlers(self) -> Mapping[Endpoint, Raw]:
        """The handler by endpoint."""
        return {api.EXPORT: Raw(self.export)}

    async def export(self, request: web.Request, caller: Identity | None) -> web.StreamResponse:
        """The church's members. Each page is a transaction: who changes meanwhile is there as their page found them."""
        if caller is None:
            raise AuthenticationFailed
        query = decoding.query(api.EXPORT, request.query)
        assert isinstance(query, ExportQuery)  # noqa: S101 - for mypy: it is the endpoint's own
        return await send_table(request, "members.csv", self._pages(caller, query))

    async def _pages(self, caller: Identity, query: ExportQuery) -> AsyncIterator[list[Sequence[str]]]:
        async with self.database.tenant(caller.church_id) as tx:
            custom = await export_store.list_custom_fields(tx)
            if len(custom) > (most := export_store.MOST_CUSTOM_FIELDS):
                raise Conflict(f"Members have more than {most:,} custom fields: too many for a table.")
            await outbox.add(tx, acted(caller, "members.exported", "church", caller.church_id))
        yield [[*_HEADER, *(f"{CUSTOM}{name}" for name in custom)]]
        after: Place | None = None
        filters = Filters(branch_id=query.branch_id, group_id=query.group_id, may_be_texted=query.opt_in)
        while True:
            async with self.database.tenant(caller.church_id) as tx:
                rows = await member_lists.list_page(tx, filters, PAGE_MEMBERS, after=after)
            if not rows:
                return
            after = (rows[-1].person.id, "")
            # Off the event loop: two addresses of each are decrypted.
            yield await asyncio.to_thread(self._lines, rows, caller.church_id, custom)

    def _lines(self, rows: Sequence[MemberRow], church_id: UUID, custom: Sequence[str]) -> list[Sequence[str]]:
        return [_line(shown(row, church_id, self.keys), _consent(row), custom) for row in rows]


def _consent(row: MemberRow) -> str:
    """Nothing where the number alone has opted out: imported again, a "no" would outlast the person's START."""
    if row.may_be_texted:
        return "yes"
    return "" if row.person.opted_in else "no"


def _line(member: Member, consent: str, custom: Sequence[str]) -> Sequence[str]:
    return [
        member.first_name,
        member.last_name,
        member.phone,
        member.email or "",
        str(member.branch_id),
        ";".join(str(each) for each in member.group_ids),
        consent,
        member.external_id or "",
        *(member.custom_fields.get(name, "") for name in custom),
    ]
