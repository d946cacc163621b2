"""A person texts a number of ours: STOP and START as the carrier takes them, and the event to the profile's webhook."""

import uuid

from koinonia import clock
from koinonia.carrier.simulated import parts
from koinonia.carrier.simulated.errors import not_found
from koinonia.carrier.simulated.receipts import tell_inbound
from koinonia.carrier.simulated.record import CarrierReply, InboundText
from koinonia.carrier.simulated.registry import OptOut
from koinonia.carrier.simulated.world import World

_STOP = frozenset({"STOP", "STOPALL", "STOP ALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"})
_START = frozenset({"START", "UNSTOP"})
_HELP = frozenset({"HELP"})


def receive(world: World, sender: str, recipient: str, text: str | None, media_urls: tuple[str, ...]) -> InboundText:
    """Take a text from a person to one of the account's numbers; 404 when it is on no profile."""
    number = world.registry.numbers.get(recipient)
    if number is None or number.profile_id is None:
        raise not_found()
    profile = world.registry.profile(number.profile_id)
    encoding, count = parts.encode(text or "") or ("UCS-2", 1)
    inbound = InboundText(
        id=str(uuid.uuid4()),
        sender=sender,
        recipient=recipient,
        text=text,
        media_urls=media_urls,
        encoding=encoding,
        parts=1 if media_urls else count,
        profile_id=profile.id,
        webhook_urls=profile.webhook_urls,
        received_at=clock.now(),
        autoresponse_type=_respond(world, profile.id, recipient, sender, text or ""),
    )
    world.record.add_inbound(inbound)
    if inbound.webhook_urls:
        tell_inbound(world, inbound)
    return inbound


def _respond(world: World, profile_id: str, number: str, person: str, text: str) -> str | None:
    """Block, unblock and confirm, per profile; what the event says was done."""
    if not world.behaviour.autoresponses:
        return None
    kind, word = _keyword(text)
    if kind is None:
        return None
    now = clock.now()
    if kind == "STOP":
        world.registry.opt_outs[profile_id, person] = OptOut(
            profile_id=profile_id, number=number, person=person, keyword=word, created_at=now
        )
    elif kind == "START":
        world.registry.opt_outs.pop((profile_id, person), None)
    world.record.carrier_replies.append(CarrierReply(sender=number, recipient=person, type=kind, at=now))
    return kind


def _keyword(text: str) -> tuple[str | None, str]:
    word = " ".join(text.upper().split())
    for kind, words in (("STOP", _STOP), ("START", _START), ("HELP", _HELP)):
        if word in words:
            return kind, word
    return None, word
