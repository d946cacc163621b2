"""Figures of sending, read now and then: what waits and for how long, and what each number uses of its rate.

Each replica of the service reads them for itself, so that a chart takes the greatest of them.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from koinonia import metrics
from koinonia.db import Database, Transaction
from koinonia_delivery.store import figures as store

EVERY_SECONDS = 15.0
MOST_ROWS = 50_000
"""No more are counted of a class for the metrics; whoever has so many waiting has the answer."""
MOST_NUMBERS = 10_000
"""Among so many numbers the oldest broadcast is looked for."""
BUSIEST = 50
"""Numbers with a label of their own, so that the metrics stay few however many churches there are."""
CLASSES = ("transactional", "broadcast", "unknown", "overdue", "parked")
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Queue(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What waits of one class. ``due``: could go, or be looked at, now. ``oldest_seconds``: None: nothing waits."""

    name: str
    depth: int
    due: int
    oldest_seconds: float | None


async def measure(tx: Transaction, rows: int = MOST_ROWS) -> list[Queue]:
    """Each of ``CLASSES``."""
    found = {row["class"]: row for row in await store.measure(tx, rows, MOST_NUMBERS)}
    return [
        Queue(
            name=name,
            depth=found[name]["depth"],
            due=found[name]["due"],
            oldest_seconds=found[name]["oldest_seconds"],
        )
        for name in CLASSES
    ]


class RateUse:
    """What numbers use of their rates, from one reading of their counters to the next."""

    def __init__(self) -> None:
        self._taken: dict[UUID, int] = {}
        self._read_at: datetime | None = None

    async def read(self, tx: Transaction) -> Mapping[UUID, float]:
        """The share of its segments per second that each number has used since the last reading, if it sent anything.

        The first reading answers nothing. Above 1 a number is only where a claim took a little ahead of its clock.
        """
        now, rows = await store.list_taken(tx, self._read_at or _LONG_AGO)
        shares = {}
        if self._read_at is not None:
            seconds = (now - self._read_at).total_seconds()
            for row in rows:
                segments = row["segments_taken"] - self._taken.get(row["id"], 0)
                if segments > 0 and seconds > 0:
                    shares[row["id"]] = segments / (row["segments_per_second"] * seconds)
        self._taken.update((row["id"], row["segments_taken"]) for row in rows)
        self._read_at = now
        return shares


class Reader:
    """Reads the figures for the metrics."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rates = RateUse()

    async def read(self) -> None:
        """Three index reads and a scan of the numbers; see the service's README for what it costs."""
        async with self._database.across_churches() as tx:
            queues = await measure(tx)
            shares = await self._rates.read(tx)
        metrics.delivery_depth.show({queue.name: queue.depth for queue in queues})
        metrics.delivery_oldest_seconds.show({queue.name: queue.oldest_seconds or 0.0 for queue in queues})
        busiest = sorted(shares, key=lambda number_id: shares[number_id], reverse=True)[:BUSIEST]
        metrics.number_rate_use.show({str(number_id): shares[number_id] for number_id in busiest})
