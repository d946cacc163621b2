"""The carrier's webhooks: receipts of our texts, and texts from people."""

from collections.abc import Mapping

import asyncpg
import structlog
from aiohttp import web

from koinonia import clock, metrics, telemetry
from koinonia.api import Endpoint, webhooks
from koinonia.carrier.webhooks import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    Verifier,
    WebhookEvent,
    parse,
)
from koinonia.carrier.wire import WireMessage
from koinonia.db import Database
from koinonia.errors import DependencyUnavailable
from koinonia.events import Envelope, Event
from koinonia.events.carrier import MessageReceived
from koinonia.security import phones
from koinonia.security.identity import Identity
from koinonia.security.keys import Keys
from koinonia.security.phones import PhoneInvalid
from koinonia.security.receipts import read_receipt_token
from koinonia.web import Raw
from koinonia_gateway.briefly import Briefly
from koinonia_gateway.domain import webhooks as rules
from koinonia_gateway.http.signed import SignedBodies
from koinonia_gateway.intake import SERVICE, Intake
from koinonia_gateway.store import projections

log = structlog.get_logger()


class Webhooks:
    """The door that the carrier calls."""

    def __init__(
        self, database: Database, keys: Keys, intake: Intake, bodies: SignedBodies, verifier: Verifier
    ) -> None:
        self._database = database
        self._keys = keys
        self._intake = intake
        self._bodies = bodies
        self._verifier = verifier
        self._numbers: Briefly[str, asyncpg.Record | None] = Briefly(self._find_number)

    def handlers(self) -> Mapping[Endpoint, Raw]:
        # Which of the two is called depends on the carrier's set-up; what it is, the signed body says.
        take = Raw(self.take, express=True)
        return {webhooks.TELNYX_STATUS: take, webhooks.TELNYX_MMS: take}

    async def take(self, request: web.Request, _caller: Identity | None) -> web.Response:
        """Answer 200 once the event is safe, or once it is known to mean nothing to us."""
        event = parse(await self._bodies.read(request, webhooks.TELNYX_STATUS, self._verify))
        if event.message is None:
            log.info("webhook_ignored", event_type=event.event_type[:50])
        elif event.event_type in rules.RECEIPT_EVENTS:
            await self._take_receipt(event, event.message)
        elif event.event_type == rules.INBOUND_EVENT:
            await self._take_text(event, event.message)
        return web.Response()

    def _verify(self, body: bytes, headers: Mapping[str, str]) -> None:
        self._verifier.verify(body, signature=headers.get(SIGNATURE_HEADER), timestamp=headers.get(TIMESTAMP_HEADER))

    async def _take_receipt(self, event: WebhookEvent, message: WireMessage) -> None:
        recipient_id = read_receipt_token(self._keys, event.token) if event.token else None
        effect = "taken" if recipient_id is not None else "unknown"
        metrics.receipts_total.add(1, {"status": str(event.status), "effect": effect})
        if recipient_id is None:
            return
        if not telemetry.is_tracing():
            await self._intake.take(rules.receipt_of(event, message, recipient_id, clock.now(), event.traceparent))
            return
        # The request's own trace is the carrier's, if it has one: a link ties the two.
        with telemetry.work(
            "take receipt",
            traceparent=event.traceparent,
            links=[telemetry.current_traceparent()],
            attributes={"recipient_id": str(recipient_id)},
        ):
            receipt = rules.receipt_of(event, message, recipient_id, clock.now(), telemetry.current_traceparent())
            await self._intake.take(receipt)

    async def _take_text(self, event: WebhookEvent, message: WireMessage) -> None:
        try:
            ours = phones.normalise(message.recipient or "")
            theirs = phones.normalise((message.sender.phone_number if message.sender else None) or "")
        except PhoneInvalid:
            log.warning("inbound_without_numbers", carrier_event_id=event.id[:64])  # a short code or a name
            return
        number = await self._numbers.get(ours)
        if number is None:
            self._numbers.forget(ours)  # it may be told of any moment
            log.warning("inbound_number_unknown", carrier_event_id=event.id[:64], attempt=event.attempt)
            if rules.may_come_to_be_known(event.attempt):
                raise DependencyUnavailable("This number is not known here yet.")
            return
        church_id = number["church_id"]
        received = MessageReceived(
            number_id=number["number_id"],
            phone_index=self._keys.index(theirs, church_id, "phone"),
            phone_ciphertext=self._keys.encrypt(theirs, church_id, "phone"),
            text=rules.text_of(message),
            media_urls=rules.media_of(message),
            carrier_id=message.id,
            occurred_at=rules.dated(event, message, clock.now()),
            answered_by_carrier=rules.auto_response_of(message),
        )
        envelope: Envelope[Event] = Envelope(
            id=rules.inbound_id(event),
            time=clock.now(),
            data=received,
            church_id=church_id,
            correlation_id=telemetry.correlation_id(),
            traceparent=telemetry.current_traceparent(),
            service=SERVICE,
        )
        await self._intake.take(envelope)

    async def _find_number(self, phone: str) -> asyncpg.Record | None:
        async with self._database.across_churches(timeout_seconds=1.0) as tx:
            return await projections.find_number(tx, phone)
