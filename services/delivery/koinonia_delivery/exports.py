"""A message's recipients as a table, read page by page: each page is a transaction, and memory stays flat."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from aiohttp import web

from koinonia.api import messages as contract
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Database
from koinonia.errors import AuthenticationFailed, NotFound
from koinonia.security import Identity
from koinonia.security.keys import Keys
from koinonia.web import decoding
from koinonia.web.tables import Lines, send_table
from koinonia_delivery.recipients import view
from koinonia_delivery.store import broadcasts, recipients

PAGE_RECIPIENTS = 500
HEADER = (
    "recipientId",
    "memberId",
    "phone",
    "status",
    "segments",
    "errorCode",
    "errorMessage",
    "sentAt",
    "deliveredAt",
)


@dataclass(frozen=True, slots=True)
class Exports:
    """What the handler needs."""

    database: Database
    keys: Keys

    async def answer(self, request: web.Request, caller: Identity | None) -> web.StreamResponse:
        """The table of the message that the path names."""
        if caller is None:
            raise AuthenticationFailed
        decoding.query(contract.EXPORT_RECIPIENTS, request.query)  # it takes none
        return await send_table(request, "recipients.csv", self.pages(caller, UUID(request.match_info["id"])))

    async def pages(self, caller: Identity, message_id: UUID) -> AsyncIterator[Lines]:
        """The header, then the recipients in the order of their ids; each as its page found it.

        The audit log tells of it before the first phone is read.

        Raises:
            NotFound: the church has no such message.
        """
        async with self.database.tenant(caller.church_id) as tx:
            known, dispatched_at = await broadcasts.find_dispatched_at(tx, message_id)
            if not known:
                raise NotFound
            await outbox.add(tx, acted(caller, "recipients.exported", "message", message_id))
        yield [HEADER]
        after: UUID | None = None
        while dispatched_at is not None:
            async with self.database.tenant(caller.church_id) as tx:
                rows, _ = await recipients.list_page(
                    tx, message_id, dispatched_at, after=after, status=None, limit=PAGE_RECIPIENTS
                )
            # Off the event loop: each phone is decrypted.
            yield await asyncio.to_thread(lambda page: [_line(view(self.keys, row)) for row in page], rows)
            if len(rows) < PAGE_RECIPIENTS:
                return
            after = rows[-1].id


def _line(row: contract.Recipient) -> Sequence[str]:
    return [
        str(row.id),
        str(row.member_id or ""),
        row.phone,
        row.status,
        str(row.segments),
        row.error_code or "",
        row.error_message or "",
        _time(row.sent_at),
        _time(row.delivered_at),
    ]


def _time(at: datetime | None) -> str:
    return "" if at is None else at.isoformat()
