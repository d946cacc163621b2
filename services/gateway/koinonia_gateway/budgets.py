"""Which limits a request counts against: its principal's, and for what costs money its church's beside it."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from koinonia.api import Endpoint, conversations, messages, own_phones
from koinonia.db import Database
from koinonia_gateway.briefly import Briefly
from koinonia_gateway.domain.rates import Rate, Standing
from koinonia_gateway.limits import Limiter
from koinonia_gateway.settings import GatewaySettings
from koinonia_gateway.store import churches

SENDS = frozenset(
    {
        messages.SEND,
        messages.SEND_TO_ME,
        messages.SEND_AGAIN,
        messages.RESEND_FAILED,
        conversations.REPLY,
        own_phones.ASK,
    }
)
PLAN_SECONDS = 10.0  # so long a church's plan is not asked for again


class Budgets:
    """Counts the requests of principals and of strangers."""

    def __init__(self, limiter: Limiter, database: Database, settings: GatewaySettings) -> None:
        self._limiter = limiter
        self._database = database
        self._api = settings.rate("api")
        self._send, self._billing = settings.rate("send"), settings.rate("billing")
        self._factors: Mapping[str, int] = settings.plan_factors
        self._plans: Briefly[UUID, str | None] = Briefly(self._load_plan, PLAN_SECONDS)

    async def count(self, endpoint: Endpoint, key: str, church_id: UUID | None) -> Sequence[Standing]:
        """Count one request of the principal or address ``key``; the last standing is the one that may be exceeded."""
        factor = await self._factor(church_id)
        standings = [await self._limiter.hit_leased(self._api.times(factor), key)]
        policy, own = self._own(endpoint)
        if own is not None and church_id is not None and not standings[0].exceeded:
            standings.append(await self._limiter.hit_leased(own.times(factor), f"{policy}:{church_id}", policy))
        return standings

    def _own(self, endpoint: Endpoint) -> tuple[str, Rate | None]:
        if endpoint in SENDS:
            return "send", self._send
        return "billing", self._billing if endpoint.owner == "billing" else None

    async def _factor(self, church_id: UUID | None) -> int:
        """How many times the usual limits are this church's."""
        if church_id is None or not self._factors:
            return 1
        plan = await self._plans.get(church_id)
        return self._factors.get(plan or "", 1)

    async def _load_plan(self, church_id: UUID) -> str | None:
        async with self._database.tenant(church_id) as tx:
            return await churches.find_plan(tx)
