"""Each recipient's copy, as a church sees it, and what a person decides where the outcome is not known."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from koinonia import api
from koinonia.api import members as member_contract
from koinonia.api import messages as contract
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import Conflict, NotFound
from koinonia.events.common import RecipientStatus
from koinonia.events.delivery import RecipientsUpdated
from koinonia.ids import id_time
from koinonia.paging import last_id, page_of
from koinonia.security.identity import Identity
from koinonia.security.keys import Keys
from koinonia_delivery.domain.states import Change, summarise
from koinonia_delivery.store import broadcasts, copies, recipients, resolving
from koinonia_delivery.store.copies import Copy
from koinonia_delivery.store.recipients import Recipient

_LISTING = "recipients"


async def list_page(
    tx: Transaction, keys: Keys, message_id: UUID, query: contract.RecipientQuery
) -> api.Page[contract.Recipient]:
    """A page of a message's recipients, in the order of their ids.

    Raises:
        NotFound: the church has no such message.
    """
    dispatched_at = await _dispatched_at(tx, message_id)
    if dispatched_at is None:
        return api.Page(data=[], has_more=False, next_cursor=None)
    listing = f"{_LISTING} {message_id}"
    after = last_id(listing, query)
    rows, looked_to = await recipients.list_page(
        tx, message_id, dispatched_at, after=after, status=query.status, limit=query.limit + 1
    )
    return page_of(
        listing,
        query,
        rows,
        show=lambda row: view(keys, row),
        key=lambda row: (row.id,),
        looked_to=None if looked_to is None else (looked_to,),
    )


async def list_of_member(
    tx: Transaction, keys: Keys, member_id: UUID, query: api.PageQuery, *, test: bool = False
) -> api.Page[member_contract.MemberMessage]:
    """A page of a member's copies, newest first: what names this person, and what went to their phone and names nobody.

    ``test``: of tests alone; else of none.

    Raises:
        NotFound: the church has no such member.
    """
    if not await copies.is_member(tx, member_id):
        raise NotFound
    listing = f"member {'tests' if test else 'messages'} {member_id}"
    rows = await copies.list_page(tx, member_id, before=last_id(listing, query), limit=query.limit + 1, test=test)
    return page_of(listing, query, rows, show=lambda row: _copy(keys, row), key=lambda row: (row.recipient.id,))


async def _dispatched_at(tx: Transaction, message_id: UUID) -> datetime | None:
    known, dispatched_at = await broadcasts.find_dispatched_at(tx, message_id)
    if not known:
        raise NotFound
    return dispatched_at


async def resolve(
    tx: Transaction,
    message_id: UUID,
    recipient_id: UUID,
    action: Literal["resend", "close"],
    *,
    identity: Identity,
) -> None:
    """Send an unknown or unconfirmed copy once more, or close it as unconfirmed.

    Raises:
        NotFound: the church has no such recipient of this message.
        Conflict: its outcome is known, it is being sent again just now, or it is a test, which is never sent.
    """
    locked = await resolving.lock(tx, recipient_id, message_id)
    if locked is None:
        raise NotFound
    if locked.is_test:
        raise Conflict("This copy is a test: send another one instead.")
    if locked.status not in ("unknown", "unconfirmed"):
        raise Conflict(f"This copy is {locked.status}: there is nothing to decide.")
    if locked.is_under_way:
        raise Conflict("This copy is being sent again at this moment.")
    became: RecipientStatus = "queued" if action == "resend" else "unconfirmed"
    await (resolving.resend if action == "resend" else resolving.close)(tx, recipient_id)
    events = _changed(tx.tenant, message_id, locked, became)
    audit = acted(identity, f"recipient.{action}", "recipient", recipient_id, message_id=str(message_id))
    await outbox.add(tx, *events, audit)


def view(keys: Keys, row: Recipient) -> contract.Recipient:
    """A recipient as its church sees it."""
    return contract.Recipient(
        id=row.id,
        member_id=row.member_ids[0] if row.member_ids else None,
        phone=keys.decrypt(row.phone_ciphertext, row.church_id, "phone"),
        status=row.status,
        segments=row.segments,
        error_code=row.error_code,
        error_message=row.error_message,
        sent_at=row.sent_at,
        delivered_at=row.delivered_at,
    )


def _copy(keys: Keys, row: Copy) -> member_contract.MemberMessage:
    recipient = row.recipient
    return member_contract.MemberMessage(
        id=recipient.id,
        message_id=recipient.source_id if recipient.kind == "broadcast" else None,
        kind=recipient.kind,
        phone=keys.decrypt(recipient.phone_ciphertext, recipient.church_id, "phone"),
        content=row.text,
        media_urls=list(row.media_urls),
        status=recipient.status,
        segments=recipient.segments,
        error_code=recipient.error_code,
        error_message=recipient.error_message,
        created_at=id_time(recipient.id),
        sent_at=recipient.sent_at,
        delivered_at=recipient.delivered_at,
        test=recipient.test,
    )


async def fetch_view(tx: Transaction, keys: Keys, recipient_id: UUID) -> contract.Recipient:
    """One recipient as its church sees it.

    Raises:
        NotFound: the church has no such recipient.
    """
    row = await recipients.find(tx, recipient_id)
    if row is None:
        raise NotFound
    return view(keys, row)


def _changed(
    church_id: UUID, message_id: UUID, before: resolving.Locked, became: RecipientStatus
) -> list[RecipientsUpdated]:
    if before.status == became:
        return []
    change = Change(
        church_id=church_id,
        source_id=message_id,
        kind="broadcast",
        branch_id=before.branch_id,
        was=before.status,
        became=became,
    )
    return [event for _, event in summarise([change])]
