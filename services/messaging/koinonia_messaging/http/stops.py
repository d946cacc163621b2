"""Requests that stop messages: they answer when delivery and billing have confirmed, or after a few seconds.

The stop is committed first, whatever follows. Nobody waits in a transaction: each look is a short one of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

import msgspec
import structlog

from koinonia.api import Endpoint, NoQuery
from koinonia.api import messages as api
from koinonia.api.messages import CancelAnswer, StopAnswer, StopFigures
from koinonia.db import Database, Transaction
from koinonia.errors import is_transient
from koinonia.life import Life
from koinonia.web import Answer, Call, Handler
from koinonia_messaging import messages, pauses
from koinonia_messaging.store import stops as stop_store

log = structlog.get_logger()

Show = Callable[[Call[None, NoQuery], Transaction, UUID], Awaitable[Answer]]
FIRST_LOOK_SECONDS = 0.05
LONGEST_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Stops:
    """What the handlers need."""

    database: Database
    life: Life
    patience_seconds: float = 5.0

    def handlers(self) -> Mapping[Endpoint, Handler]:
        """The handlers by endpoint."""
        return {
            api.CANCEL: Handler(self.cancel, rebuild=self.show_cancelled, afterwards=self.cancel_confirmed),
            api.STOP: Handler(self.stop, rebuild=self.show_stopped, afterwards=self.stop_confirmed),
        }

    async def cancel(self, call: Call[None, NoQuery], tx: Transaction) -> Answer:
        call.made(call.path["id"])
        await messages.cancel(tx, call.identity, call.path["id"])
        return await self.show_cancelled(call, tx, call.path["id"])

    async def show_cancelled(self, _call: Call[None, NoQuery], tx: Transaction, made_id: UUID) -> Answer:
        message = await messages.fetch(tx, made_id)
        # A message that was cancelled before stops had figures has none: nothing of it is known to be final.
        figures = message.stopped or StopFigures(
            sent=0, will_not_go=0, in_flight=0, credited_segments=0, credited_cents=0, final=False
        )
        return _answer(CancelAnswer(message=message, **msgspec.structs.asdict(figures)))

    async def cancel_confirmed(self, call: Call[None, NoQuery]) -> Answer | None:
        return await self._confirmed(call, self.show_cancelled)

    async def stop(self, call: Call[None, NoQuery], tx: Transaction) -> Answer:
        stop_id = await pauses.stop(tx, call.identity)
        call.made(stop_id)
        return await self.show_stopped(call, tx, stop_id)

    async def show_stopped(self, _call: Call[None, NoQuery], tx: Transaction, made_id: UUID) -> Answer:
        return _answer(await pauses.show_stop(tx, made_id))

    async def stop_confirmed(self, call: Call[None, NoQuery]) -> Answer | None:
        return await self._confirmed(call, self.show_stopped)

    async def _confirmed(self, call: Call[None, NoQuery], show: Show) -> Answer | None:
        """What is known when all is confirmed or patience ends; None when the database is away: the stop stands."""
        if call.made_id is None:
            return None
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self.patience_seconds
        pause_seconds = FIRST_LOOK_SECONDS
        try:
            while True:
                async with self.database.tenant(call.identity.church_id) as tx:
                    over = loop.time() >= ends_at or self.life.stopping.is_set()
                    if over or await stop_store.is_confirmed(tx, call.made_id):
                        return await show(call, tx, call.made_id)
                await self.life.pause(min(pause_seconds, max(0.0, ends_at - loop.time())))
                pause_seconds = min(1.7 * pause_seconds, LONGEST_LOOK_SECONDS)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("stop_not_shown", reason=type(error).__name__)
            return None


def _answer(body: CancelAnswer | StopAnswer) -> Answer:
    return Answer(body=body, status=200 if body.final else 202)
