"""Figures: a church's dashboard, and how its texts fared day by day.

They are kept by the events that change them, not counted when they are asked for.
"""

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Self

import msgspec
from msgspec import Meta
from typing_extensions import override

from koinonia.api.common import Query, Response
from koinonia.api.endpoint import Endpoint
from koinonia.errors import FieldError

MOST_DAYS = 366
USUAL_DAYS = 30
EARLIEST_YEAR, LATEST_YEAR = 2000, 3000

DeliveryRate = Annotated[
    Annotated[float, Meta(ge=0, le=1)] | None,
    Meta(description="Delivered of those that were delivered or failed; null: none was yet"),
]


class Fared(Response, frozen=True, kw_only=True):
    """How the texts of some messages fared; what was sent with a test key is left out."""

    messages: int
    recipients: Annotated[int, Meta(description="Distinct numbers of each message, left-out ones included")]
    sent: Annotated[int, Meta(description="Accepted by the carrier, delivered or not")]
    delivered: int
    failed: Annotated[int, Meta(description="Refused, not delivered, or too late to be sent")]
    suppressed: Annotated[int, Meta(description="Left out: no consent, or opted out")]
    delivery_rate: DeliveryRate

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(messages=4, recipients=500, sent=492, delivered=488, failed=4, suppressed=6, delivery_rate=488 / 492)


class Dashboard(Response, frozen=True, kw_only=True):
    """A church at a glance. Days and months are those of the church's time zone."""

    timezone: str
    today: date
    members: int
    opted_in: Annotated[int, Meta(description="Members who may be texted")]
    groups: int
    branches: int
    today_figures: Annotated[Fared, Meta(description="Of messages whose sending began today")]
    this_month: Fared
    last_month: Fared

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            timezone="America/Chicago",
            today=date(2026, 11, 22),
            members=512,
            opted_in=495,
            groups=12,
            branches=3,
            today_figures=Fared.example(),
            this_month=Fared.example(),
            last_month=Fared.example(),
        )


class DeliveryDay(Fared, frozen=True, kw_only=True):
    """The messages whose sending began on one day, however late their receipts came."""

    date: date

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(date=date(2026, 11, 22), **msgspec.structs.asdict(Fared.example()))


class DeliveryQuery(Query, frozen=True, kw_only=True):
    """Days of the church's time zone, both included; without them the last 30, and 30 of a range with one end."""

    from_: date | None = msgspec.field(name="from", default=None)
    to: date | None = None

    @override
    def check(self) -> Iterator[FieldError]:
        for name, day in (("from", self.from_), ("to", self.to)):
            if day is not None and not EARLIEST_YEAR <= day.year < LATEST_YEAR:
                yield FieldError(name, f"Must be from {EARLIEST_YEAR}-01-01 on, before {LATEST_YEAR}-01-01")
        if self.from_ is not None and self.to is not None:
            if self.to < self.from_:
                yield FieldError("to", "Before from")
            elif (self.to - self.from_).days >= MOST_DAYS:
                yield FieldError("to", f"More than {MOST_DAYS} days from from")


class DeliveryByDay(Response, frozen=True, kw_only=True):
    """Each day of a range, the first one first, also those on which nothing was sent; and all of them together."""

    from_: date = msgspec.field(name="from")
    to: date
    timezone: str
    total: Fared
    days: list[DeliveryDay]

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            from_=date(2026, 11, 22),
            to=date(2026, 11, 22),
            timezone="America/Chicago",
            total=Fared.example(),
            days=[DeliveryDay.example()],
        )


STATS = Endpoint(
    name="analytics.stats",
    method="GET",
    path="/api/analytics/stats",
    owner="messaging",
    summary="The dashboard's figures",
    response=Dashboard,
)
DELIVERY = Endpoint(
    name="analytics.delivery",
    method="GET",
    path="/api/analytics/delivery",
    owner="messaging",
    summary="How texts fared, day by day",
    description="A text is counted on the day on which its message began to be sent. At most 366 days; a range that "
    "names one end only has 30.",
    query=DeliveryQuery,
    response=DeliveryByDay,
)

ENDPOINTS = (STATS, DELIVERY)
