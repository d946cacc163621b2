"""Door: ``/simulator/…``, by which people and tests tell the simulated carrier what to do. Needs no key."""

from typing import Annotated

import msgspec
from aiohttp import web

from koinonia.carrier.simulated import payloads
from koinonia.carrier.simulated.deliveries import DeliveryFigures
from koinonia.carrier.simulated.errors import decode, json_answer, malformed
from koinonia.carrier.simulated.faults import Fault
from koinonia.carrier.simulated.inbound import receive
from koinonia.carrier.simulated.record import Summary, Text
from koinonia.carrier.simulated.registry import Number
from koinonia.carrier.simulated.settings import Behaviour
from koinonia.carrier.simulated.world import WORLD, World

MAX_PAGE = 10_000
Phone = Annotated[str, msgspec.Meta(pattern=r"^(\+[1-9][0-9]{6,14}|[0-9]{5,6})$")]


class FaultsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Faults to add."""

    faults: list[Fault]


class InboundRequest(msgspec.Struct, forbid_unknown_fields=True, rename={"sender": "from"}):
    """A person texts one of the account's numbers."""

    sender: Phone
    to: Phone
    text: str | None = None
    media_urls: list[str] = []


class NumberRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A number to have at once, on a profile of that id or on one made for it."""

    phone_number: Phone
    messaging_profile_id: str | None = None
    webhook_url: str | None = None
    webhook_failover_url: str | None = None


class RecordAnswer(msgspec.Struct):
    """The record in figures."""

    texts: Summary
    webhooks: DeliveryFigures


async def overview(request: web.Request) -> web.Response:
    """``GET /simulator``: settings, figures, the public key."""
    world = request.app[WORLD]
    return json_answer(
        {
            "public_key": world.signer.public_key,
            "settings": world.behaviour,
            "numbers": [_number(number) for number in world.registry.numbers.values()],
            "texts": world.record.summary(),
            "webhooks": world.deliveries.figures,
        }
    )


async def public_key(request: web.Request) -> web.Response:
    """``GET /simulator/public-key``."""
    return json_answer({"public_key": request.app[WORLD].signer.public_key})


async def reset(request: web.Request) -> web.Response:
    """``POST /simulator/reset``."""
    request.app[WORLD].reset()
    return json_answer({})


async def change_settings(request: web.Request) -> web.Response:
    """``PATCH /simulator/settings``: the named ones change."""
    world = request.app[WORLD]
    changes = decode(await request.read(), dict[str, object])
    merged = {**msgspec.structs.asdict(world.behaviour), **changes}
    world.behaviour = decode(msgspec.json.encode(merged), Behaviour)
    return json_answer(world.behaviour)


async def list_faults(request: web.Request) -> web.Response:
    """``GET /simulator/faults``: each with how often it struck."""
    return json_answer({"faults": request.app[WORLD].faults.orders})


async def add_faults(request: web.Request) -> web.Response:
    """``POST /simulator/faults``."""
    world = request.app[WORLD]
    world.faults.add(*decode(await request.read(), FaultsRequest).faults)
    return json_answer({"faults": world.faults.orders})


async def clear_faults(request: web.Request) -> web.Response:
    """``DELETE /simulator/faults``."""
    request.app[WORLD].faults.clear()
    return json_answer({"faults": []})


async def inbound(request: web.Request) -> web.Response:
    """``POST /simulator/inbound``."""
    wanted = decode(await request.read(), InboundRequest)
    text = receive(request.app[WORLD], wanted.sender, wanted.to, wanted.text, tuple(wanted.media_urls))
    return json_answer({"data": payloads.inbound(text)})


async def numbers(request: web.Request) -> web.Response:
    """``GET`` and ``POST /simulator/numbers``."""
    world = request.app[WORLD]
    if request.method == "POST":
        return json_answer(_number(add_number(world, decode(await request.read(), NumberRequest))))
    return json_answer({"numbers": [_number(number) for number in world.registry.numbers.values()]})


async def record(request: web.Request) -> web.Response:
    """``GET /simulator/record``: the figures."""
    world = request.app[WORLD]
    return json_answer(RecordAnswer(world.record.summary(), world.deliveries.figures))


async def texts(request: web.Request) -> web.Response:
    """``GET /simulator/record/texts?from=&to=&after=&limit=``: in the order of their acceptance."""
    record = request.app[WORLD].record
    sender, recipient = request.query.get("from"), request.query.get("to")
    found = record.texts
    if sender is not None:
        found = record.sent_by(sender)
    elif recipient is not None:
        found = record.to(recipient)
    if sender is not None and recipient is not None:
        found = [text for text in found if text.recipient == recipient]
    return json_answer(_page(request, found))


async def duplicates(request: web.Request) -> web.Response:
    """``GET /simulator/record/duplicates?after=&limit=``."""
    return json_answer(_page(request, request.app[WORLD].record.duplicates))


async def carrier_replies(request: web.Request) -> web.Response:
    """``GET /simulator/record/carrier-replies``: confirmations that the carrier sent by itself."""
    return json_answer({"data": request.app[WORLD].record.carrier_replies})


async def deliver_pending(request: web.Request) -> web.Response:
    """``POST /simulator/pending/deliver``: send the events that were held back."""
    return json_answer({"delivered": request.app[WORLD].deliveries.release()})


def add_number(world: World, wanted: NumberRequest) -> Number:
    """Own a number at once; without a profile named, its profile is made."""
    profile_id = wanted.messaging_profile_id
    if profile_id is None:
        name = f"profile of {wanted.phone_number}"
        profile_id = world.registry.add_profile(name, wanted.webhook_url, wanted.webhook_failover_url).id
    return world.registry.add_number(wanted.phone_number, world.registry.profile(profile_id).id)


def _number(number: Number) -> dict[str, object]:
    return {"id": number.id, "phone_number": number.phone, "messaging_profile_id": number.profile_id}


def _page(request: web.Request, found: list[Text]) -> dict[str, object]:
    try:
        after = int(request.query.get("after", "0"))
        limit = min(int(request.query.get("limit", "1000")), MAX_PAGE)
    except ValueError:
        raise malformed("after and limit are numbers.") from None
    if after < 0 or limit < 1:
        raise malformed("after starts at 0, limit at 1.")
    rows = found[after : after + limit]
    place = after + len(rows)
    return {"data": rows, "total": len(found), "next_after": place if place < len(found) else None}
