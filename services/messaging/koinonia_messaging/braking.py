"""A broadcast whose texts fail in numbers pauses itself, and says why."""

from collections.abc import Sequence
from uuid import UUID

import structlog

from koinonia import clock, metrics
from koinonia.carrier.errors import is_known, meaning
from koinonia.db import Transaction
from koinonia.events.messaging import MessagePaused
from koinonia_messaging.domain.brake import Brake, judge, reason
from koinonia_messaging.store import pauses as store
from koinonia_messaging.store.broadcasts import Counted

log = structlog.get_logger()


async def brake(tx: Transaction, counted: Sequence[Counted], rule: Brake) -> list[tuple[UUID, MessagePaused]]:
    """Judge the messages of which enough was said since their last window; the events of those that pause themselves,
    with their churches.
    """
    paused = []
    for each in counted:
        failures, window = judge(rule, each.window, each.now)
        await store.move_window(tx, each.message_id, window)
        if failures is None:
            continue
        code = await store.find_commonest_error(tx, each.message_id)
        now, why = clock.now(), reason(failures, _sentence(code))
        turned = await store.pause(tx, each.message_id, now, why)
        if turned is None:
            continue
        if not turned.test:  # nobody has to look after a test
            log.error(
                "broadcast_paused_itself",
                message_id=str(each.message_id),
                church_id=str(each.church_id),
                code=code,
                failed=failures.failed,
                of=failures.of,
            )
            metrics.pauses_total.add(1, {"scope": "message", "cause": "failures"})
        event = MessagePaused(
            message_id=each.message_id, version=turned.version, paused_at=now, reason=why, test=turned.test
        )
        paused.append((each.church_id, event))
    return paused


def _sentence(code: str | None) -> str | None:
    if code is None:
        return None
    sentence = meaning(code).sentence if is_known(code) else "The carrier refused it."
    return f"{sentence} (code {code})"
