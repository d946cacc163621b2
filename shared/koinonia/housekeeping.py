"""What grows by itself and must go again: inbox rows and idempotency keys whose time is over."""

from collections.abc import Awaitable, Callable

import structlog

from koinonia.bus import inbox
from koinonia.db import Database, Transaction
from koinonia.errors import is_transient
from koinonia.life import Life
from koinonia.web import idempotency

log = structlog.get_logger()

BATCH_ROWS = 5000
INTERVAL_SECONDS = 600.0

_FORGETTING: tuple[Callable[[Transaction, int], Awaitable[int]], ...] = (inbox.forget, idempotency.forget)


async def tidy(database: Database) -> int:
    """Delete what is over, in batches of their own transactions; answers how many rows."""
    deleted = 0
    for forget in _FORGETTING:
        count = BATCH_ROWS
        while count == BATCH_ROWS:
            async with database.across_churches() as tx:
                count = await forget(tx, BATCH_ROWS)
            deleted += count
    return deleted


async def keep_tidy(database: Database, life: Life) -> None:
    """Tidy every ten minutes, until the process stops."""
    while not life.stopping.is_set():
        try:
            await tidy(database)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("housekeeping_postponed", reason=type(error).__name__)
        await life.pause(INTERVAL_SECONDS)
