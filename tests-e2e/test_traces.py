"""One broadcast is one trace, through every service that has a part in it."""

import secrets

from koinonia.testing.fixtures import wait_until

from .caller import Caller
from .church import Church
from .collector import Collector, Span

PEOPLE = 3
WANTED = {
    ("gateway", "POST /api/messages/send"),
    ("messaging", "POST /api/messages/send"),
    ("billing", "consume billing.messages"),
    ("messaging", "consume messaging.billing"),
    ("delivery", "consume delivery.chunks"),
    ("delivery-worker", "send text"),
    ("gateway", "take receipt"),
    ("gateway", "take receipt"),
    ("delivery", "announce"),  # what the receipts changed
}
# These take events of several broadcasts at once: they go on with the trace, or are linked to it.
WANTED_OR_LINKED = {
    ("delivery", "consume delivery.receipts"),
    ("messaging", "consume messaging.progress"),
    ("billing", "consume billing.usage"),
}


async def test_a_broadcast_is_one_trace_from_the_request_to_the_receipt(church: Church, collector: Collector) -> None:
    await church.add(PEOPLE)
    trace_id = secrets.token_hex(16)
    async with Caller(church) as caller:
        answer = await caller.send(
            "POST",
            "/api/messages/send",
            b'{"content": "Follow me.", "targetType": "all"}',
            {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"},
        )
    assert answer.status == 202
    await church.client.messages.wait_until_completed(answer.json()["message"]["id"], timeout_seconds=90)

    def spans() -> list[Span]:
        return collector.trace(trace_id)

    def is_whole() -> bool:
        known = named(spans())
        linked = named(collector.linked(trace_id))
        return (
            known >= WANTED
            and known | linked >= WANTED_OR_LINKED
            and len(roots(spans())) == 1
            and len(texts()) >= PEOPLE
        )

    def texts() -> list[Span]:
        return [span for span in spans() if span.name == "send text"]

    try:
        await wait_until(is_whole, seconds=60)
    except AssertionError:
        raise AssertionError(f"the trace is not whole:{story(spans())}") from None
    (root,) = roots(spans())
    assert (root.service, root.name) == ("gateway", "POST /api/messages/send")
    assert len(texts()) == PEOPLE


def named(spans: list[Span]) -> set[tuple[str, str]]:
    """Their services and names."""
    return {(span.service, span.name) for span in spans}


def roots(spans: list[Span]) -> list[Span]:
    """The spans whose parent is not there: of a whole trace, only the first."""
    known = {span.span_id for span in spans}
    return [span for span in spans if span.parent_id not in known]


def story(spans: list[Span]) -> str:
    """The spans, one in a line; those without their parent are marked."""
    lost = roots(spans)
    lines = sorted(f"{span.service}: {span.name}{' (no parent)' if span in lost else ''}" for span in spans)
    return "\n" + "\n".join(lines)
