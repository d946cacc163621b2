"""The judge finds each thing that could be lost, doubled or wrong: a run in order has none, each change one."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from ..carrier import Text
from .books import Books, Figure, Message, Reservation, Row
from .judging import Copy, Facts, Fallen, judge, judge_kills
from .plan import HALF, Plan, Step, plan
from .run import Report, unmet

MESSAGE = UUID(int=1)
CONTENT = "Be there."
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


def copy_of(number: int, *, texted: bool = True, heard: tuple[str, ...] = ("sent", "delivered"), **row: Any) -> Copy:
    """A recipient who got the text and whose receipts were heard, but for what is said."""
    phone = f"+1312200{number:04}"
    given = {
        "id": UUID(int=100 + number),
        "source_id": MESSAGE,
        "kind": "broadcast",
        "status": "delivered",
        "segments": 1,
        "attempt": 1,
        "carrier_id": f"text {number}",
        "accepted_at": NOW,
        "phone_ciphertext": b"",
        "work_state": None,
    }
    text = Text(f"text {number}", "+12055550100", phone, CONTENT, 1, "token", "delivered", NOW, heard)
    return Copy(Row(**{**given, **row}), phone, [text] if texted else [])


def unsent(number: int, status: str, **row: Any) -> Copy:
    """A recipient whom the carrier has never heard of."""
    work = "unknown" if status == "unknown" else None
    given = {"status": status, "carrier_id": None, "accepted_at": None, "work_state": work, **row}
    return copy_of(number, texted=False, **given)


def books_of(*copies: Copy, **changes: Any) -> Books:
    """Books that fit these rows, but for what is said."""
    rows = [copy.row for copy in copies]
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status] = counts.get(row.status, 0) + 1
    used = sum(row.segments for row in rows if row.accepted_at is not None)
    is_open = bool({"sent", "unknown"} & counts.keys())
    status = "completed" if not is_open else "handed_over" if "unknown" not in counts else "sending"
    fitting = Books(
        rows=rows,
        messages=[Message(MESSAGE, status, CONTENT, len(rows), counts)],
        reservations=[Reservation(MESSAGE, "reserved" if is_open else "settled", len(rows), used)],
        used_segments=used,
        reserved_segments=len(rows) - used if is_open else 0,
        ledger_segments=used,
        ledger_recipients=used,
        open_holds=0,
    )
    return msgspec.structs.replace(fitting, **changes)


def facts_of(*copies: Copy, **changes: Any) -> Facts:
    """A run with keys in which nobody was stopped, but for what is said."""
    return replace(Facts(True, {MESSAGE: CONTENT}, {MESSAGE: len(copies)}, 0, 0), **changes)


def judged(*copies: Copy, facts: dict[str, Any] | None = None, **books: Any) -> list[str]:
    """The complaints."""
    return judge(books_of(*copies, **books), copies, [], facts_of(*copies, **(facts or {})))


WITHOUT_KEYS = {"idempotency": False}
STOPPED = {"stopped": {"+13122000002"}}


@pytest.mark.parametrize(
    ("copies", "facts"),
    [
        ([copy_of(1), copy_of(2)], {}),
        ([copy_of(1), copy_of(2, status="sent", heard=("sent",))], {}),
        ([copy_of(1), unsent(2, "suppressed")], STOPPED),
        ([copy_of(1), copy_of(2)], STOPPED),  # it was on its way
        ([copy_of(1), unsent(2, "unknown")], STOPPED | {"lost_calls": 1}),
        ([copy_of(1), unsent(2, "unknown")], WITHOUT_KEYS | {"lost_calls": 1}),
        ([copy_of(1), unsent(2, "unknown")], WITHOUT_KEYS | {"ended_leases": 1}),
    ],
)
def test_a_run_in_order_has_no_complaints(copies: list[Copy], facts: dict[str, Any]) -> None:
    assert judged(*copies, facts=facts) == []


def test_a_text_that_came_twice_is_found_under_one_token_and_under_two() -> None:
    twice = copy_of(1)
    assert judged(Copy(twice.row, twice.phone, [*twice.texts, *twice.texts]))
    other = copy_of(2)
    assert judged(twice, Copy(other.row, twice.phone, [msgspec.structs.replace(twice.texts[0], id="text 2")]))
    assert judge(books_of(twice), [twice], twice.texts, facts_of(twice))


@pytest.mark.parametrize("status", ["queued", "sending", "unknown", "failed", "suppressed", "cancelled", "delivered"])
def test_a_recipient_who_got_nothing_and_said_nothing_is_found(status: str) -> None:
    assert judged(copy_of(1), unsent(2, status))


@pytest.mark.parametrize(
    ("row", "facts"),
    [
        ({"status": "sent"}, {}),  # its last receipt was heard
        ({"status": "undelivered"}, {}),
        ({"status": "unknown", "accepted_at": None, "work_state": "unknown", "heard": ()}, {}),  # with keys
        ({"status": "unknown", "accepted_at": None, "work_state": "unknown"}, WITHOUT_KEYS),  # its receipt was heard
        ({"carrier_id": "another"}, {}),
        ({"segments": 2}, {}),
        ({"accepted_at": None}, {}),
        ({"work_state": "sending"}, {}),
    ],
)
def test_a_row_that_tells_other_than_the_carrier_is_found(row: dict[str, Any], facts: dict[str, Any]) -> None:
    assert judged(copy_of(1), copy_of(2, **row), facts=facts)


def test_unknown_ones_are_no_more_than_calls_without_an_answer() -> None:
    copies = [unsent(1, "unknown"), unsent(2, "unknown")]
    assert judged(*copies, facts=WITHOUT_KEYS | {"lost_calls": 1, "ended_leases": 1}) == []
    assert judged(*copies, facts=WITHOUT_KEYS | {"lost_calls": 1})
    assert judged(unsent(1, "unknown", attempt=0), facts=WITHOUT_KEYS | {"lost_calls": 1})


def test_a_text_after_a_stop_is_found() -> None:
    assert judged(copy_of(1), copy_of(2), facts=STOPPED | {"late_claims": 1})


@pytest.mark.parametrize(
    "books",
    [
        {"used_segments": 1},
        {"ledger_segments": 3},
        {"ledger_recipients": 1},
        {"reserved_segments": 1},
        {"open_holds": 1},
        {"reservations": [Reservation(MESSAGE, "reserved", 2, 2)]},
        {"reservations": [Reservation(MESSAGE, "settled", 2, 1)]},
        {"messages": []},
        {"messages": [Message(MESSAGE, "completed", CONTENT, 2, {"delivered": 2})] * 2},
        {"messages": [Message(MESSAGE, "completed", CONTENT, 2, {"delivered": 1})]},
        {"messages": [Message(MESSAGE, "handed_over", CONTENT, 2, {"delivered": 2})]},
        {"messages": [Message(MESSAGE, "completed", CONTENT, 3, {"delivered": 2})]},
    ],
)
def test_counters_and_bills_that_do_not_add_up_are_found(books: dict[str, Any]) -> None:
    assert judged(copy_of(1), copy_of(2), **books)


def test_somebody_without_a_row_is_found() -> None:
    assert judged(copy_of(1), facts={"people": {MESSAGE: 2}})


KILLS = Plan(0, True, (Step(0.1, "kill", "billing"), Step(0.2, "kill", "delivery-worker-1")))


def fallen(step: Step, **changes: Any) -> Fallen:
    """A process that was killed among open rows, a worker with three of them in its hands, but for what is said."""
    open_ones = Counter(queued=5, sending=3)
    in_hands = 3 if step.whom.startswith("delivery-worker") else 0
    return replace(Fallen(step, step.whom, open_ones, open_ones, in_hands), **changes)


def test_kills_that_fell_as_planned_have_no_complaints() -> None:
    relay = fallen(Step(0.3, "relay", "delivery"))
    assert judge_kills(KILLS, [*map(fallen, KILLS.steps), relay]) == []


def test_a_worker_that_was_killed_while_it_held_nobody_is_found_though_others_held_some() -> None:
    service, worker = map(fallen, KILLS.steps)
    complaints = judge_kills(KILLS, [service, replace(worker, in_hands=0)])
    assert complaints == ["delivery-worker-1 held no recipient when it was killed"]


@pytest.mark.parametrize("change", ["before", "after"])
def test_a_kill_that_fell_while_no_row_was_open_is_found(change: str) -> None:
    service, worker = KILLS.steps
    complaints = judge_kills(KILLS, [fallen(service, **{change: Counter(delivered=8)}), fallen(worker)])
    assert complaints == ["no row was open when billing was killed"]


def test_a_process_that_was_not_killed_is_found() -> None:
    assert judge_kills(KILLS, [fallen(KILLS.steps[0])]) == ["delivery-worker-1 was not killed"]


def test_a_figure_that_is_not_what_the_rows_come_to_is_told() -> None:
    wrong = [Figure("day 2026-11-22", "delivered", 3, 2)]
    assert judged(copy_of(1), wrong_figures=wrong) == ["delivered of day 2026-11-22 is kept as 3, counted 2"]


def test_runs_that_have_met_nothing_together_say_so() -> None:
    reports = [Report(plan(seed)) for seed in range(HALF)]
    assert len(unmet(reports)) == 3
    for report in reports:
        report.pauses = report.published_again = 1
        report.statuses["suppressed"] = 1
    assert unmet(reports) == []
    assert unmet([Report(plan(0))]) == []  # too few
