"""What becomes of an event that could not be handled: delayed retries, then its queue's dead letters.

The story travels in the message's headers: attempt, first failure, reason, stack. It holds no values of the event: the
stack is places in the code only, and the reason has a message only where the error is ``Outspoken``.
"""

from collections.abc import Mapping
from typing import Any

import structlog

from koinonia import clock, metrics
from koinonia.bus.declare import DEAD_EXCHANGE, DELAY_SECONDS, delay_exchange
from koinonia.bus.publisher import EVENT_ID_HEADER, Outgoing, Publisher
from koinonia.bus.session import Delivery
from koinonia.security.redaction import describe, stack_of

log = structlog.get_logger()

ATTEMPT = "koinonia-attempt"
FIRST_FAILED_AT = "koinonia-first-failed-at"
FIRST_ERROR = "koinonia-first-error"
REASON = "koinonia-reason"
STACK = "koinonia-stack"
QUEUE = "koinonia-queue"
ROUTING_KEY = "koinonia-routing-key"
DIED_AT = "koinonia-died-at"

_REASON_LENGTH = 500


def attempt_of(headers: Mapping[str, Any]) -> int:
    """How many times the event has been handled, this time included."""
    attempt = headers.get(ATTEMPT)
    return attempt if isinstance(attempt, int) and attempt > 0 else 1


def reason_of(error: BaseException) -> str:
    """What may be told of the error, and the classes of what caused it."""
    causes: list[str] = []
    cause = error.__cause__
    while cause is not None and len(causes) < 5:
        causes.append(f" ← {type(cause).__name__}")
        cause = cause.__cause__
    return describe(error)[:_REASON_LENGTH] + "".join(causes)


def _story(queue: str, delivery: Delivery, error: BaseException) -> dict[str, Any]:
    """The headers that a failed event carries on."""
    headers = delivery.headers
    story = {
        ATTEMPT: attempt_of(headers),
        FIRST_FAILED_AT: headers.get(FIRST_FAILED_AT) or clock.now().isoformat(),
        FIRST_ERROR: headers.get(FIRST_ERROR) or type(error).__name__,
        REASON: reason_of(error),
        STACK: stack_of(error),
        QUEUE: queue,
        ROUTING_KEY: headers.get(ROUTING_KEY) or delivery.routing_key,
    }
    if (event_id := headers.get(EVENT_ID_HEADER)) is not None:
        story[EVENT_ID_HEADER] = event_id
    return story


async def retry_or_bury(publisher: Publisher, queue: str, delivery: Delivery, error: Exception) -> None:
    """Give the event another try after 1, 2, then 4 seconds; bury it when all have failed.

    Raises:
        BrokerUnavailable: it is still where it was.
    """
    attempt = attempt_of(delivery.headers)
    if attempt > len(DELAY_SECONDS):
        await bury(publisher, queue, delivery, error)
        return
    seconds = DELAY_SECONDS[attempt - 1]
    headers = _story(queue, delivery, error) | {ATTEMPT: attempt + 1}
    await publisher.publish(
        [Outgoing(exchange=delay_exchange(seconds), routing_key=queue, body=delivery.body, headers=headers)]
    )
    metrics.consumed_total.add(1, {"queue": queue, "outcome": "retried"})
    log.warning(
        "event_retried", queue=queue, event_id=headers.get(EVENT_ID_HEADER), attempt=attempt, seconds=seconds,
        reason=headers[REASON], stack=headers[STACK],
    )  # fmt: skip


async def bury(publisher: Publisher, queue: str, delivery: Delivery, error: Exception) -> None:
    """Put the event among its queue's dead letters, where an operator finds it.

    Raises:
        BrokerUnavailable: it is still where it was.
    """
    headers = _story(queue, delivery, error) | {DIED_AT: clock.now().isoformat()}
    await publisher.publish([Outgoing(exchange=DEAD_EXCHANGE, routing_key=queue, body=delivery.body, headers=headers)])
    metrics.dead_letters_total.add(1, {"queue": queue})
    log.error(
        "event_dead", queue=queue, event_id=headers.get(EVENT_ID_HEADER), attempt=headers[ATTEMPT],
        reason=headers[REASON], stack=headers[STACK],
    )  # fmt: skip
