"""Whether a plan covers a broadcast."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from koinonia_billing.domain.authorization import (
    Standing,
    cost_cents,
    credited_cents,
    credited_segments,
    decide,
    held_segments,
)

NOW = datetime(2026, 11, 22, tzinfo=UTC)
STANDING = Standing(
    status="trialing",
    church_status="active",
    period_end=NOW + timedelta(days=1),
    included=1000,
    used=300,
    reserved=200,
    has_overage=False,
)


def test_a_broadcast_within_the_remaining_segments_is_covered() -> None:
    assert decide(STANDING, bound=500, held=0, used=0, now=NOW).declined is None


def test_one_segment_more_is_declined_and_tells_what_is_left() -> None:
    decision = decide(STANDING, bound=501, held=0, used=0, now=NOW)
    assert (decision.declined, decision.available) == ("plan_limit", 500)


def test_what_the_message_holds_and_has_used_counts_for_it() -> None:
    assert decide(STANDING, bound=700, held=150, used=50, now=NOW).declined is None
    assert decide(STANDING, bound=701, held=150, used=50, now=NOW).declined == "plan_limit"


def test_a_plan_with_overage_covers_any_number() -> None:
    assert decide(replace(STANDING, has_overage=True), bound=10**6, held=0, used=0, now=NOW).declined is None


def test_a_trial_that_is_over_covers_nothing() -> None:
    over = replace(STANDING, period_end=NOW)
    assert decide(over, bound=1, held=0, used=0, now=NOW).declined == "no_subscription"
    assert decide(replace(over, status="active"), bound=1, held=0, used=0, now=NOW).declined is None


def test_a_canceled_subscription_and_a_suspended_church_cover_nothing() -> None:
    assert decide(replace(STANDING, status="canceled"), bound=1, held=0, used=0, now=NOW).declined == "no_subscription"
    assert (
        decide(replace(STANDING, church_status="suspended"), bound=1, held=0, used=0, now=NOW).declined == "suspended"
    )


def test_more_used_than_included_leaves_nothing_and_not_less() -> None:
    assert replace(STANDING, used=2000).remaining == 0


def test_a_reservation_holds_what_is_not_used_yet() -> None:
    assert [held_segments(10, used) for used in (0, 4, 10, 12)] == [10, 6, 0, 0]


def test_a_period_costs_its_price_and_the_overage() -> None:
    assert cost_cents(price_cents=2900, overage_cents=2, included=100, used=90) == 2900
    assert cost_cents(price_cents=2900, overage_cents=2, included=100, used=110) == 2920
    assert cost_cents(price_cents=0, overage_cents=None, included=100, used=110) == 0


def test_what_a_stopped_broadcast_cannot_use_any_more_is_credited() -> None:
    assert credited_segments(100, 30, 5) == 65
    assert credited_segments(10, 12, 0) == 0  # more was sent than reserved: a person sent one twice


@pytest.mark.parametrize(("overage_cents", "taken", "cents"), [(2, 200, 100), (2, 70, 40), (2, 10, 0), (None, 200, 0)])
def test_a_credit_is_worth_what_it_would_have_cost_beyond_the_included(
    overage_cents: int | None, taken: int, cents: int
) -> None:
    assert credited_cents(overage_cents=overage_cents, included=100, taken=taken, credited=50) == cents
