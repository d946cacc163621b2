"""Metering: what the carrier accepted goes into the ledger, once."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from koinonia.api.billing import Usage, UsageDay, UsageQuery
from koinonia.bus import FactMissing
from koinonia.db import Transaction
from koinonia.errors import NotFound
from koinonia.events import Envelope
from koinonia.events.delivery import RecipientsUpdated
from koinonia_billing.domain.authorization import cost_cents
from koinonia_billing.store import ledger, reservations, subscriptions
from koinonia_billing.subscriptions import church_key


async def meter(tx: Transaction, received: Sequence[Envelope[RecipientsUpdated]]) -> None:
    """Write a batch of accepted texts, tests excepted, into the ledger; at most four statements for any churches.

    Raises:
        FactMissing: a church of the batch has no subscription yet.
    """
    accepted = [event for event in received if event.data.accepted_segments > 0 and not event.data.test]
    if not accepted:
        return
    used: Counter[UUID] = Counter()
    by_source: Counter[UUID] = Counter()
    for event in accepted:
        if event.church_id is None:
            raise ValueError("accepted texts belong to a church")
        used[event.church_id] += event.data.accepted_segments
        by_source[event.data.source_id] += event.data.accepted_segments
    known = await subscriptions.lock_many(tx, sorted(used))
    if missing := sorted(used.keys() - known):
        raise FactMissing(church_key(missing[0]))
    await ledger.insert(tx, accepted)
    released: Counter[UUID] = Counter()
    for row in await reservations.use(tx, list(by_source), list(by_source.values())):
        released[row["church_id"]] += row["reserved"]
    churches = sorted(used)
    await subscriptions.add(tx, churches, [used[each] for each in churches], [released[each] for each in churches])


async def show(tx: Transaction, query: UsageQuery) -> Usage:
    """What the church used in a span of days, and how its plan stands; two statements.

    Raises:
        NotFound: the church has no subscription yet.
    """
    row = await subscriptions.find(tx)
    if row is None:
        raise NotFound
    begin = _midnight(query.from_) if query.from_ else row["period_start"]
    end = _midnight(query.to) if query.to else max(row["period_end"], begin + timedelta(days=1))
    days = [
        UsageDay(date=day["day"], recipients=day["recipients"], segments=day["segments"])
        for day in await ledger.sum_by_day(tx, begin, end)
    ]
    included, used, reserved = row["included_segments"], row["used_segments"], row["reserved_segments"]
    return Usage(
        from_=begin,
        to=end,
        recipients=sum(day.recipients for day in days),
        segments=sum(day.segments for day in days),
        credited_segments=0,
        cost_cents=cost_cents(
            price_cents=row["price_cents"], overage_cents=row["overage_cents"], included=included, used=used
        ),
        currency=row["currency"],
        included_segments=included,
        used_segments=used,
        reserved_segments=reserved,
        remaining_segments=max(0, included - used - reserved),
        days=days,
    )


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
