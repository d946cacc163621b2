"""The dashboard, the days and the branches, by the figures that are kept."""

from datetime import date, timedelta
from uuid import UUID

from koinonia import clock
from koinonia.api.analytics import USUAL_DAYS, Dashboard, DeliveryByDay
from koinonia.db import Transaction
from koinonia_messaging.domain.figures import (
    NOTHING,
    Span,
    at_most,
    church_day,
    fared,
    in_days,
    months,
    span,
    total,
    zone_of,
)
from koinonia_messaging.store import figures as figure_store
from koinonia_messaging.store.figures import Difference

_TWO_MONTHS = timedelta(days=64)


async def dashboard(tx: Transaction) -> Dashboard:
    """A church at a glance, by one statement."""
    now = clock.now()
    glance = await figure_store.find_dashboard(tx, at_most(now) - _TWO_MONTHS, at_most(now))
    today = church_day(now, glance.timezone)
    present, last = (
        fared(total(sums for day, sums in glance.days.items() if days.first <= day <= days.last))
        for days in months(today)
    )
    return Dashboard(
        timezone=zone_of(glance.timezone).key,
        today=today,
        members=glance.members,
        opted_in=glance.opted_in,
        groups=glance.groups,
        branches=glance.branches,
        today_figures=fared(glance.days.get(today, NOTHING)),
        this_month=present,
        last_month=last,
    )


async def delivery(tx: Transaction, since: date | None, until: date | None) -> DeliveryByDay:
    """How texts fared on each of some days, by one statement: the days are known once the church's zone is."""
    now = clock.now()
    latest = at_most(now)
    usual = Span(latest - timedelta(days=USUAL_DAYS + 1), latest)
    widest = usual if since is None and until is None else span(since, until, latest)
    timezone, known = await figure_store.list_days(tx, widest.first, widest.last)
    days = span(since, until, church_day(now, timezone))
    asked = [sums for day, sums in known.items() if days.first <= day <= days.last]
    return DeliveryByDay(
        from_=days.first,
        to=days.last,
        timezone=zone_of(timezone).key,
        total=fared(total(asked)),
        days=in_days(known, days),
    )


async def rebuild(tx: Transaction, church_id: UUID) -> list[Difference]:
    """Put a church's figures right, while they go on being kept; what was wrong."""
    await figure_store.lock(tx, church_id)
    await figure_store.date_messages(tx, church_id)
    return await figure_store.compare(tx, church_id, correct=True)
