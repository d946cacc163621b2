"""Counters: reports in any order, before the audience is resolved, once only."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from koinonia.events.messaging import MessageCompleted
from koinonia.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager
    from uuid import UUID

    from services.messaging.tests.integration.conftest import Church

    from koinonia.db.statistics import StatementLog


async def dispatched(church: Church, count: int = 4) -> UUID:
    await church.add_crowd(count)
    message_id = await church.dispatch()
    await church.stream_all(message_id)
    return message_id


async def test_a_message_is_handed_over_and_then_completed_once(church: Church) -> None:
    message_id = await dispatched(church)
    await church.report(message_id, {"queued": 3, "suppressed": 1})
    assert (await church.message(message_id)).status == "sending"
    await church.report(message_id, {"queued": -3, "sent": 2, "unknown": 1})
    assert (await church.message(message_id)).status == "sending"
    await church.report(message_id, {"unknown": -1, "sent": 1})
    handed_over = await church.message(message_id)
    assert (handed_over.status, handed_over.completed_at) == ("handed_over", None)
    assert handed_over.handed_over_at is not None
    await church.report(message_id, {"sent": -3, "delivered": 2, "unconfirmed": 1})
    completed = await church.message(message_id)
    assert (completed.status, completed.handed_over_at) == ("completed", handed_over.handed_over_at)
    await church.report(message_id, {"unconfirmed": -1, "delivered": 1})
    late = await church.message(message_id)
    assert (late.status, late.counts.delivered, late.counts.unconfirmed) == ("completed", 3, 0)
    assert [each.recipient_count for each in await church.published(MessageCompleted)] == [4]


@pytest.mark.parametrize("seed", range(5))
async def test_reports_add_up_in_any_order(church: Church, seed: int) -> None:
    message_id = await dispatched(church)
    reports = [
        {"queued": 2},
        {"queued": 2},
        {"queued": -2, "sent": 2},
        {"queued": -1, "unknown": 1},
        {"queued": -1, "failed": 1},
        {"unknown": -1, "sent": 1},
        {"sent": -3, "delivered": 3},
    ]
    random.Random(seed).shuffle(reports)
    for report in reports:
        await church.report(message_id, report)
        shown = await church.message(message_id)
        counts = shown.counts
        assert min(getattr(counts, name) for name in counts.__struct_fields__) >= 0
        assert sum(getattr(counts, name) for name in counts.__struct_fields__) == shown.total_recipients == 4
    shown = await church.message(message_id)
    assert (shown.status, shown.counts.delivered, shown.counts.failed) == ("completed", 3, 1)
    assert len(await church.published(MessageCompleted)) == 1


async def test_reports_that_come_before_the_last_page_count_and_complete_the_message_with_it(church: Church) -> None:
    await church.add_crowd(4)
    message_id = await church.dispatch()
    await church.stream(message_id, 2)
    await church.stream(message_id, 2)
    await church.report(message_id, {"queued": 4}, {"queued": -4, "delivered": 4})
    early = await church.message(message_id)
    assert (early.status, early.counts.delivered) == ("sending", 4)
    await church.stream(message_id, 2)
    assert (await church.message(message_id)).status == "completed"
    assert len(await church.published(MessageCompleted)) == 1


async def test_one_batch_counts_many_messages_in_few_statements(
    church: Church, count_statements: Callable[[], AbstractContextManager[StatementLog]]
) -> None:
    await church.add_crowd(1)
    sent = [await church.dispatch() for _ in range(5)]
    for message_id in sent:
        await church.stream_all(message_id)
    events = [(each, {"queued": 1}) for each in sent] + [(each, {"queued": -1, "sent": 1}) for each in sent]
    with count_statements() as counted:
        await church.report_all(events)
    assert counted.by_name == {"messages.count_recipients": 1, "messages.finish": 1}
    assert {(await church.message(each)).status for each in sent} == {"handed_over"}


async def test_what_is_no_broadcast_or_another_churchs_counts_nothing(
    new_church: Callable[[], Awaitable[Church]],
) -> None:
    church, other = await new_church(), await new_church()
    message_id = await dispatched(church, 2)
    before = await church.row(message_id)
    await other.report(message_id, {"queued": 2})
    await church.report(new_id(), {"queued": 2})
    assert await church.row(message_id) == before
