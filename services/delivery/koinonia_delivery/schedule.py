"""What delivery does by the clock. Every loop may run in any number of replicas at once."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import structlog

from koinonia.bus import outbox
from koinonia.db import Database
from koinonia.db.archives import Archives
from koinonia.errors import is_transient
from koinonia.events.delivery import MarkerSent
from koinonia.life import Life
from koinonia.security.keys import Keys
from koinonia_delivery import emails, figures, retention
from koinonia_delivery.doubts import Doubts
from koinonia_delivery.messages import Bells, move_rows, sweep_cancelled
from koinonia_delivery.provisioning import Provisioning
from koinonia_delivery.receipts import Receipts
from koinonia_delivery.simulating import simulate
from koinonia_delivery.store import claims, suppressions

log = structlog.get_logger()

MARKER_SECONDS = 2.0
TEST_SECONDS = 0.5
TOMBSTONE_DAYS = 90
PARKED_BATCH = 100

Loop = Callable[[], Coroutine[Any, Any, None]]


async def send_marker(database: Database) -> None:
    """Send a marker through our own hold queue: when it comes back, all before it has been applied."""
    async with database.across_churches() as tx:
        await outbox.add(tx, MarkerSent(sent_at=await suppressions.database_time(tx)), church_id=None)


async def watch_freshness(database: Database) -> None:
    """Say so while nothing is claimed because our knowledge of opt-outs is too old."""
    async with database.across_churches() as tx:
        fresh = await claims.is_fresh(tx)
    if not fresh:
        log.warning("sending_waits_for_opt_outs", seconds=claims.FRESH_SECONDS)


def loops(
    database: Database,
    life: Life,
    provisioning: Provisioning,
    doubts: Doubts,
    receipts: Receipts,
    *,
    archives: Archives,
    keys: Keys,
    bells: Bells,
) -> Mapping[str, Loop]:
    """The loops of the service, by name."""

    async def try_parked() -> None:
        async with database.across_churches() as tx:
            await receipts.try_parked(tx, PARKED_BATCH)

    async def forget_tombstones() -> None:
        async with database.across_churches() as tx:
            await suppressions.forget_settled(tx, TOMBSTONE_DAYS)

    reader = figures.Reader(database)
    return {
        "figures": lambda: every(life, figures.EVERY_SECONDS, "figures", reader.read),
        "e-mails": lambda: every(life, figures.EVERY_SECONDS, "e-mails", lambda: emails.read_figures(database)),
        "old e-mails": lambda: every(life, 3600.0, "old e-mails", lambda: emails.forget_old(database)),
        "markers": lambda: every(life, MARKER_SECONDS, "markers", lambda: send_marker(database)),
        "freshness": lambda: every(life, 5.0, "freshness", lambda: watch_freshness(database)),
        "numbers": lambda: every(life, 1.0, "numbers", provisioning.run_once),
        "leases": lambda: every(life, 2.0, "leases", doubts.reap_leases),
        "look-ups": lambda: every(life, 2.0, "look-ups", doubts.look_up),
        "overdue": lambda: every(life, 60.0, "overdue", doubts.scan_overdue),
        "parked receipts": lambda: every(life, 3.0, "parked receipts", try_parked),
        "cancelled": lambda: every(life, 3.0, "cancelled", lambda: sweep_cancelled(database), bells.cancelled),
        "paused": lambda: every(life, 3.0, "paused", lambda: move_rows(database), bells.moving),
        "test texts": lambda: every(life, TEST_SECONDS, "test texts", lambda: simulate(database, keys, life.stopping)),
        "retention": lambda: every(
            life, retention.EVERY_SECONDS, "retention", lambda: retention.keep(database, archives)
        ),
        "tombstones": lambda: every(life, 3600.0, "tombstones", forget_tombstones),
    }


async def every(
    life: Life,
    seconds: float,
    name: str,
    work: Callable[[], Awaitable[object]],
    bell: asyncio.Event | None = None,
) -> None:
    """Do it again and again, also when the bell rings, until the process stops; an absent dependency postpones it."""
    while not life.stopping.is_set():
        try:
            await work()
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("loop_postponed", loop=name, reason=type(error).__name__)
        await life.pause(seconds, bell)
