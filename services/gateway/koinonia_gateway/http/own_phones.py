"""The phone of the admin who asks."""

from collections.abc import Mapping

from koinonia.api import Endpoint
from koinonia.api import own_phones as api
from koinonia.api.common import NoQuery
from koinonia.api.own_phones import OwnPhone, OwnPhoneConfirmation, OwnPhoneRequest
from koinonia.db import Database, Transaction
from koinonia.errors import ValidationFailed
from koinonia.security.keys import Keys
from koinonia.web import Call, Handler
from koinonia_gateway import own_phones as cases
from koinonia_gateway.audit import Actor


class OwnPhones:
    """The routes of one's own phone."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

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
        return await cases.ask(tx, self._keys, own.principal_id, call.body.phone, Actor.of(own))

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
