"""What becomes of an accepted text, and which events tell of it: faults decide here."""

import asyncio
from datetime import timedelta

from koinonia import clock
from koinonia.carrier.simulated.deliveries import Event
from koinonia.carrier.simulated.faults import EventName
from koinonia.carrier.simulated.record import InboundText, Text
from koinonia.carrier.simulated.world import World

_TITLES = {
    "40001": "Not routable",
    "40002": "Blocked as spam - temporary",
    "40006": "Recipient server unavailable",
    "40008": "Undeliverable message",
    "40014": "Message expired in queue",
    "40300": "Blocked due to STOP message",
}
_DEFAULT_CODES = {"delivery_failed": "40008", "sending_failed": "40001", "expired": "40014"}


async def announce(world: World, text: Text) -> None:
    """Let a text take its course. Returns at once, but for early receipts: those come before the POST is answered."""
    if world.faults.strike("receipt_early", text.recipient) is not None:
        await world.deliveries.send_now(_course(world, text))
        return
    delay = text.wait_seconds + world.behaviour.receipt_seconds
    if delay > 0:
        world.deliveries.later(delay, lambda: _tell(world, text))
    else:
        # After the answer: the connection writes it before the loop comes to this.
        asyncio.get_running_loop().call_soon(_tell, world, text)


def tell_inbound(world: World, text: InboundText) -> None:
    """Send the event of a text from a person to its profile's webhook."""
    event = Event(type="message.received", subject=text, status=None, occurred_at=text.received_at)
    world.deliveries.send(_through_faults(world, event, text.sender, "received"))


def _tell(world: World, text: Text) -> None:
    events = _course(world, text)
    if world.faults.strike("receipt_reordered", text.recipient) is not None:
        events.reverse()
    names: dict[str, EventName] = {"message.sent": "sent", "message.finalized": "finalized"}
    world.deliveries.send(
        [copy for event in events for copy in _through_faults(world, event, text.recipient, names[event.type])]
    )


def _course(world: World, text: Text) -> list[Event]:
    """Bring a text to its end; its events in order. One that could not be sent has no ``message.sent``."""
    now = clock.now()
    failure = world.faults.strike("final_status", text.recipient)
    final = failure.final_status if failure is not None else "delivered"
    if failure is not None and final != "delivered":
        text.error_code = failure.code or _DEFAULT_CODES.get(final)
        text.error_title = failure.title or _TITLES.get(text.error_code or "")
    events: list[Event] = []
    if final not in {"sending_failed", "expired"}:
        text.sent_at = now
        events.append(Event(type="message.sent", subject=text, status="sent", occurred_at=now))
    text.completed_at = now + timedelta(milliseconds=1)
    world.record.move(text, final)
    events.append(Event(type="message.finalized", subject=text, status=final, occurred_at=text.completed_at))
    return events if text.webhook_urls else []


def _through_faults(world: World, event: Event, person: str, name: EventName) -> list[Event]:
    """The copies to send now; none when it is dropped or comes later."""
    faults = world.faults
    if faults.strike("receipt_dropped", person, name) is not None:
        return []
    if (late := faults.strike("receipt_late", person, name)) is not None:
        if late.seconds is None:
            world.deliveries.hold(event)
        else:
            world.deliveries.later(late.seconds, lambda: world.deliveries.send((event,)))
        return []
    if faults.strike("receipt_doubled", person, name) is not None:
        return [event, _copy(event)]
    return [event]


def _copy(event: Event) -> Event:
    return Event(
        type=event.type, subject=event.subject, status=event.status, occurred_at=event.occurred_at, id=event.id
    )
