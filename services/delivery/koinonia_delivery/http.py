"""The requests that delivery answers."""

from collections.abc import Mapping
from uuid import UUID

from koinonia import api
from koinonia.api import Endpoint
from koinonia.api import members as member_api
from koinonia.api import messages as message_api
from koinonia.api import numbers as number_api
from koinonia.api.common import TestableQuery
from koinonia.db import Database, Transaction
from koinonia.errors import NotFound
from koinonia.paging import last_id, page_of
from koinonia.security.keys import Keys
from koinonia.trail import BEGIN, DeliveryPart
from koinonia.web import Call, Handler, Raw
from koinonia_delivery import churches, recipients, trail
from koinonia_delivery.exports import Exports
from koinonia_delivery.store import numbers

_NUMBERS = "numbers"


class Handlers:
    """The handlers; they need the keys to show phones, and the database for what is read in many transactions."""

    def __init__(self, keys: Keys, database: Database) -> None:
        self._keys = keys
        self._exports = Exports(database, keys)

    def by_endpoint(self) -> Mapping[Endpoint, Handler | Raw]:
        """All of them."""
        return {
            message_api.LIST_RECIPIENTS: Handler(self.list_recipients),
            message_api.EXPORT_RECIPIENTS: Raw(self._exports.answer),
            message_api.RESOLVE_RECIPIENT: Handler(self.resolve, rebuild=self.show_resolved),
            member_api.LIST_MESSAGES: Handler(self.list_member_messages),
            number_api.LIST: Handler(self.list_numbers),
            number_api.PAUSE: Handler(self.pause_number, rebuild=self.show_number),
            number_api.RESUME: Handler(self.resume_number, rebuild=self.show_number),
            BEGIN: Handler(self.begin_trail),
        }

    async def list_recipients(
        self, call: Call[None, message_api.RecipientQuery], tx: Transaction
    ) -> api.Page[message_api.Recipient]:
        """Each recipient's copy."""
        return await recipients.list_page(tx, self._keys, call.path["id"], call.query)

    async def list_member_messages(
        self, call: Call[None, TestableQuery], tx: Transaction
    ) -> api.Page[member_api.MemberMessage]:
        """What a member got or did not get."""
        test = call.identity.shows_tests(call.query.test)
        return await recipients.list_of_member(tx, self._keys, call.path["id"], call.query, test=test)

    async def resolve(
        self, call: Call[message_api.ResolveRequest, api.NoQuery], tx: Transaction
    ) -> message_api.Recipient:
        """A person's decision on a copy whose outcome is not known."""
        recipient_id = call.path["recipientId"]
        await recipients.resolve(
            tx,
            call.path["id"],
            recipient_id,
            call.body.action,
            identity=call.identity,
        )
        call.made(recipient_id)
        return await recipients.fetch_view(tx, self._keys, recipient_id)

    async def show_resolved(
        self, _call: Call[message_api.ResolveRequest, api.NoQuery], tx: Transaction, made_id: UUID | None
    ) -> message_api.Recipient:
        """The same copy again, as it is now."""
        if made_id is None:
            raise NotFound
        return await recipients.fetch_view(tx, self._keys, made_id)

    async def begin_trail(self, call: Call[None, api.NoQuery], tx: Transaction) -> DeliveryPart:
        """Delivery's part of a recipient's trail, for the gateway."""
        return await trail.begin(tx, call.path["recipientId"], call.path["id"])

    async def list_numbers(self, call: Call[None, api.PageQuery], tx: Transaction) -> api.Page[number_api.Number]:
        """The church's numbers, newest first."""
        rows = await numbers.list_page(tx, last_id(_NUMBERS, call.query), call.query.limit + 1)
        return page_of(_NUMBERS, call.query, rows, show=_view, key=lambda row: (row.id,))

    async def pause_number(self, call: Call[None, api.NoQuery], tx: Transaction) -> number_api.Number:
        """A number that sends nothing until it is resumed."""
        return _view(await churches.pause_number(tx, call.identity, call.path["id"], paused=True))

    async def resume_number(self, call: Call[None, api.NoQuery], tx: Transaction) -> number_api.Number:
        """A number that sends again, unless its church rests."""
        return _view(await churches.pause_number(tx, call.identity, call.path["id"], paused=False))

    async def show_number(
        self, call: Call[None, api.NoQuery], tx: Transaction, _made_id: UUID | None
    ) -> number_api.Number:
        """The number as it is now."""
        number = await numbers.find(tx, call.path["id"])
        if number is None:
            raise NotFound
        return _view(number)


HOLD_SENTENCES = {
    "suspended": "Your account is suspended.",
    "church_paused": "All sending of your church is paused.",
    "paused": "This number is paused.",
}


def _view(number: numbers.Number) -> number_api.Number:
    reason = number.hold_reason
    return number_api.Number(
        id=number.id,
        phone_number=number.phone,
        kind=number.kind,
        status=number.shown_status,
        is_default=number.is_default,
        segments_per_second=number.segments_per_second,
        created_at=number.created_at,
        hold_reason=number.refusal_reason if reason == "carrier" else HOLD_SENTENCES.get(reason or ""),
    )
