"""Plans, the church's subscription, and what it used."""

from collections.abc import Iterator
from datetime import date, datetime
from typing import Literal, Self
from uuid import UUID

import msgspec
from typing_extensions import override

from koinonia.api.common import EXAMPLE_ID, EXAMPLE_TIME, Page, Query, Response
from koinonia.api.endpoint import MANAGERS, Endpoint
from koinonia.errors import FieldError


class Plan(Response, frozen=True, kw_only=True):
    """What a church can subscribe to. ``overageCents``: each segment beyond the included; null: none beyond."""

    id: UUID
    code: str
    name: str
    price_cents: int
    overage_cents: int | None
    currency: str
    included_segments: int

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            code="trial",
            name="Trial",
            price_cents=0,
            overage_cents=None,
            currency="USD",
            included_segments=5000,
        )


class Subscription(Response, frozen=True, kw_only=True):
    """The church's plan, and the period it counts in."""

    id: UUID
    plan: Plan
    status: Literal["trialing", "active", "past_due", "canceled"]
    period_start: datetime
    period_end: datetime
    created_at: datetime

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            plan=Plan.example(),
            status="trialing",
            period_start=EXAMPLE_TIME,
            period_end=EXAMPLE_TIME.replace(month=12),
            created_at=EXAMPLE_TIME,
        )


class UsageDay(Response, frozen=True, kw_only=True):
    """One UTC day."""

    date: date
    recipients: int
    segments: int

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(date=date(2026, 11, 22), recipients=495, segments=495)


class Usage(Response, frozen=True, kw_only=True):
    """What the carrier accepted from ``from`` to before ``to``, and how the plan stands now."""

    from_: datetime = msgspec.field(name="from")
    to: datetime
    recipients: int
    segments: int
    credited_segments: int
    cost_cents: int
    currency: str
    included_segments: int
    used_segments: int
    reserved_segments: int
    remaining_segments: int
    days: list[UsageDay]

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            from_=EXAMPLE_TIME,
            to=EXAMPLE_TIME.replace(month=12),
            recipients=495,
            segments=495,
            credited_segments=0,
            cost_cents=0,
            currency="USD",
            included_segments=5000,
            used_segments=495,
            reserved_segments=0,
            remaining_segments=4505,
            days=[UsageDay.example()],
        )


EARLIEST_YEAR = 2000  # long before there was anything to bill; ids, which hold the time, begin with 1970


class UsageQuery(Query, frozen=True, kw_only=True):
    """UTC days, ``to`` not included; left out: the present period."""

    from_: date | None = msgspec.field(name="from", default=None)
    to: date | None = None

    @override
    def check(self) -> Iterator[FieldError]:
        for name, day in (("from", self.from_), ("to", self.to)):
            if day is not None and day.year < EARLIEST_YEAR:
                yield FieldError(name, f"Must be {EARLIEST_YEAR}-01-01 or later")
        if self.from_ is None or self.to is None:
            return
        if not 0 < (self.to - self.from_).days <= 731:
            yield FieldError("to", "Must be after from, by at most two years")


LIST_PLANS = Endpoint(
    name="billing.listPlans",
    method="GET",
    path="/api/billing/plans",
    owner="billing",
    summary="The plans there are",
    description="All of them, cheapest first.",
    response=Page[Plan],
)
GET_SUBSCRIPTION = Endpoint(
    name="billing.getSubscription",
    method="GET",
    path="/api/billing/subscription",
    owner="billing",
    summary="The church's subscription",
    response=Subscription,
    roles=MANAGERS,
    extra_errors=("NOT_FOUND",),
)
GET_USAGE = Endpoint(
    name="billing.getUsage",
    method="GET",
    path="/api/billing/usage",
    owner="billing",
    summary="What the church used",
    query=UsageQuery,
    response=Usage,
    roles=MANAGERS,
    extra_errors=("NOT_FOUND",),
)

ENDPOINTS = (LIST_PLANS, GET_SUBSCRIPTION, GET_USAGE)
