"""A church's first number: a messaging profile of its own at the carrier, a number searched, ordered and put to work.

Each step is saved before the next begins, and each call is made outside any transaction. What may have been done is
looked for before it is done again: a profile by its name, an order by its reference, which is the wish's id.
"""

import asyncio
from uuid import UUID

import msgspec
import structlog

from koinonia.bus import outbox, parking
from koinonia.carrier.contract import Carrier, CarrierError, NumberOrder, Rejected
from koinonia.db import Database
from koinonia.resilience.backoff import Backoff
from koinonia_delivery.chunks import number_fact
from koinonia_delivery.churches import number_changed
from koinonia_delivery.domain.numbers import kind_of
from koinonia_delivery.settings import DeliverySettings
from koinonia_delivery.store import numbers
from koinonia_delivery.store.numbers import NumberKind, Order

log = structlog.get_logger()

BATCH = 10
LEASE_SECONDS = 120.0  # longer than a wish's calls can take together
PENDING_SECONDS = 1.0
_BACKOFF = Backoff(base_seconds=2.0, max_seconds=300.0)


class Provisioning:
    """Fulfils wishes for numbers."""

    def __init__(self, database: Database, carrier: Carrier, settings: DeliverySettings) -> None:
        self._database = database
        self._carrier = carrier
        self._settings = settings
        self._rates: dict[NumberKind, float] = {
            "long_code": settings.long_code_rate,
            "toll_free": settings.toll_free_rate,
            "short_code": settings.short_code_rate,
        }

    async def run_once(self) -> int:
        """Work on the wishes that are due; answers how many were."""
        async with self._database.across_churches() as tx:
            due = await numbers.take_due(tx, BATCH, LEASE_SECONDS)
        await asyncio.gather(*(self._advance(order) for order in due))
        return len(due)

    async def _advance(self, order: Order) -> None:
        """Bring one wish as far as it goes now; what stands in the way is tried again later."""
        try:
            wait_seconds = await self._fulfil(order)
        except CarrierError as error:
            wait_seconds = _BACKOFF.delay_seconds(order.tries)
            log.warning(
                "number_not_ordered", church_id=str(order.church_id), code=error.carrier_code, tries=order.tries
            )
        if wait_seconds is not None:
            async with self._database.tenant(order.church_id) as tx:
                await numbers.try_again(tx, order.id, wait_seconds)

    async def _fulfil(self, order: Order) -> float | None:
        """None: fulfilled; else the seconds until it is looked at again."""
        if order.messaging_profile_id is None:
            profile_id = await self._profile(order.church_id)
            order = await self._keep(msgspec.structs.replace(order, messaging_profile_id=profile_id))
        placed = await self._placed(order)
        if placed is None:
            order, placed = await self._place(order)
        if placed.status == "pending":
            return PENDING_SECONDS
        if placed.status == "failure" or not placed.phones:
            # Another number under the same wish: the failed order is passed over when its reference is looked for.
            await self._keep(msgspec.structs.replace(order, phone=None, order_id=None))
            return _BACKOFF.delay_seconds(order.tries)
        await self._activate(order, placed.phones[0])
        return None

    async def _profile(self, church_id: UUID) -> str:
        name = f"koinonia {church_id}"
        found = await self._carrier.find_messaging_profiles(name)
        if found:
            return found[0].profile_id
        made = await self._carrier.create_messaging_profile(name, webhook_url=self._settings.inbound_webhook_url)
        return made.profile_id

    async def _placed(self, order: Order) -> NumberOrder | None:
        """The order that was made for this wish, also by an attempt whose answer was lost."""
        if order.order_id is not None:
            return await self._carrier.look_up_order(order.order_id)
        if order.phone is None:
            return None
        found = await self._carrier.find_orders(str(order.id))
        return next((each for each in found if each.status != "failure"), None)

    async def _place(self, order: Order) -> tuple[Order, NumberOrder]:
        available = await self._carrier.search_numbers(limit=5)
        if not available:
            raise Rejected("The carrier has no number at the moment.", carrier_code="none_available")
        order = await self._keep(msgspec.structs.replace(order, phone=available[0].phone))
        placed = await self._carrier.order_number(
            available[0].phone, messaging_profile_id=order.messaging_profile_id or "", reference=str(order.id)
        )
        return await self._keep(msgspec.structs.replace(order, order_id=placed.order_id)), placed

    async def _keep(self, order: Order) -> Order:
        async with self._database.tenant(order.church_id) as tx:
            await numbers.note_progress(tx, order)
        return order

    async def _activate(self, order: Order, phone: str) -> None:
        kind = kind_of(phone)
        async with self._database.tenant(order.church_id) as tx:
            number = await numbers.insert(
                tx,
                order.id,
                phone=phone,
                kind=kind,
                segments_per_second=self._rates[kind],
                messaging_profile_id=order.messaging_profile_id or "",
            )
            await numbers.complete(tx, order.id)
            if number is not None:
                await outbox.add(tx, number_changed(number))
                await parking.release(tx, number_fact(order.church_id))
        log.info("number_active", church_id=str(order.church_id), number_id=str(order.id), kind=kind)
