"""Requests about whether a church sends."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from koinonia.api import Endpoint, NoQuery
from koinonia.api import churches as api
from koinonia.api.churches import Sending
from koinonia.db import Transaction
from koinonia.web import Call, Handler
from koinonia_messaging import pauses


@dataclass(frozen=True, slots=True)
class ChurchSending:
    """The handlers."""

    def handlers(self) -> Mapping[Endpoint, Handler]:
        """The handlers by endpoint."""
        return {
            api.GET_SENDING: Handler(self.get),
            api.PAUSE_SENDING: Handler(self.pause, rebuild=self.rebuild),
            api.RESUME_SENDING: Handler(self.resume, rebuild=self.rebuild),
        }

    async def get(self, call: Call[None, NoQuery], tx: Transaction) -> Sending:
        return await pauses.show_sending(tx, call.path["id"])

    async def pause(self, call: Call[None, NoQuery], tx: Transaction) -> Sending:
        return await pauses.pause_sending(tx, call.identity, call.path["id"])

    async def resume(self, call: Call[None, NoQuery], tx: Transaction) -> Sending:
        return await pauses.resume_sending(tx, call.identity, call.path["id"])

    async def rebuild(self, call: Call[object, NoQuery], tx: Transaction, _made_id: UUID | None) -> Sending:
        return await pauses.show_sending(tx, call.path["id"])
