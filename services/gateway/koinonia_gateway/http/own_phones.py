"""The phone of the admin who asks."""

from collections.abc import Mapping
from uuid import UUID

from koinonia.api import Endpoint
from koinonia.api import own_phones as api
from koinonia.api.common import NoQuery
from koinonia.api.own_phones import OwnPhone, OwnPhoneConfirmation, OwnPhoneRequest
from koinonia.db import Transaction
from koinonia.errors import RateLimited, ValidationFailed
from koinonia.service import Parts
from koinonia.web import Call, Handler
from koinonia_gateway import own_phones as cases
from koinonia_gateway.audit import Actor
from koinonia_gateway.limits import Limiter
from koinonia_gateway.settings import GatewaySettings

_ALL_CHURCHES = 2  # times the rate of one church: a stranger's throw-away church closes nobody's phone
_PURPOSE = "phone-codes"


class OwnPhones:
    """The routes of one's own phone."""

    def __init__(self, parts: Parts[GatewaySettings], limiter: Limiter) -> None:
        self._database = parts.database
        self._keys = parts.keys
        self._limiter = limiter
        self._rate = parts.settings.rate("phone_code")

    def handlers(self) -> Mapping[Endpoint, Handler]:
        return {
            api.GET: Handler(self.get),
            api.ASK: Handler(self.ask),
            # A wrong code is counted and then refused: it opens its transaction itself.
            api.CONFIRM: Handler(self.confirm, transaction=False),
            api.REMOVE: Handler(self.remove),
        }

    async def get(self, call: Call[None, NoQuery], tx: Transaction) -> OwnPhone:
        """The phone."""
        return await cases.show(tx, self._keys, call.identity.principal_id)

    async def ask(self, call: Call[OwnPhoneRequest, NoQuery], tx: Transaction) -> OwnPhone:
        """A code on its way."""
        own = call.identity
        asked = await cases.ask(tx, self._keys, own.principal_id, call.body.phone, Actor.of(own))
        await self._count(tx.tenant, asked.pending_phone or "")
        return asked

    async def confirm(self, call: Call[OwnPhoneConfirmation, NoQuery]) -> OwnPhone:
        """The phone, confirmed."""
        own = call.identity
        async with self._database.tenant(own.church_id) as tx:
            confirmed = await cases.confirm(tx, self._keys, own.principal_id, call.body.code, Actor.of(own))
        if confirmed is None:
            raise ValidationFailed.field("code", "Is wrong, or is good no more: have a new one texted")
        return confirmed

    async def remove(self, call: Call[None, NoQuery], tx: Transaction) -> None:
        """The end of it."""
        await cases.remove(tx, call.identity.principal_id, Actor.of(call.identity))

    async def _count(self, church_id: UUID, phone: str) -> None:
        """Nobody gets one code after the other in our name: few by the admins of one church, and few by all churches'.

        Counted is what goes out; what is beyond a limit is undone with its transaction. The phone is counted under a
        signature: Redis gets no numbers.

        Raises:
            RateLimited: this phone has got too many codes.
        """
        signature = self._keys.sign(_PURPOSE, phone.encode()).hex()
        for rate, key in (
            (self._rate, f"phone-code:{church_id}:{signature}"),
            (self._rate.times(_ALL_CHURCHES), f"phone-code:{signature}"),
        ):
            standing = await self._limiter.hit(rate, key)
            if standing.exceeded:
                raise RateLimited(retry_after_seconds=standing.seconds_left)
