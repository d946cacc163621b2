"""Door: imports in the background, by the clock. Any number of replicas may run this loop.

A lease is for one piece: it keeps replicas from doing the same work, and is not what makes it right.
"""

import asyncio
from dataclasses import dataclass, field

import structlog

from koinonia import telemetry
from koinonia.db import Database
from koinonia.life import Life
from koinonia.security import Keys
from koinonia_messaging import imports
from koinonia_messaging.schedule import LEASES, is_away, keep
from koinonia_messaging.store import imports as import_store
from koinonia_messaging.store.broadcasts import Leases
from koinonia_messaging.store.imports import Import

log = structlog.get_logger()

IMPORTS_AT_ONCE = 10
MOST_ATTEMPTS = 10
"""At one piece: with leases that grow, half an hour of failing, or ten processes that it killed."""


@dataclass(frozen=True, slots=True)
class Importing:
    """The loop of one process; ``bell`` wakes it."""

    database: Database
    life: Life
    keys: Keys
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    leases: Leases = LEASES

    async def run(self) -> None:
        """Write imports, a piece of each in turn, until the process stops."""
        await keep(self.life, self.round, self.bell)

    async def round(self) -> int:
        """Write one piece of each import that waits; how many pieces."""
        async with self.database.across_churches() as tx:
            await import_store.discard_stale(tx)
            waiting = await import_store.claim(
                tx, self.leases.first_seconds, self.leases.longest_seconds, IMPORTS_AT_ONCE
            )
        # First where nothing has failed yet.
        return sum([await self._work(each) for each in sorted(waiting, key=lambda each: each.attempt)])

    async def _work(self, work: Import) -> bool:
        with telemetry.work(
            "import_piece",
            traceparent=work.traceparent,
            correlation=work.correlation_id,
            attributes={"import_id": str(work.id)},
        ):
            try:
                async with self.database.tenant(work.church_id) as tx:
                    if work.attempt <= MOST_ATTEMPTS:
                        return await imports.carry_on(tx, work.id, self.keys)
                    await import_store.fail(tx, work.id)
            except Exception as error:
                if is_away(error):
                    raise
                log.exception("import_piece_failed", import_id=str(work.id), attempt=work.attempt)
                return False
        log.error("import_failed", import_id=str(work.id))
        return False
