"""The gateway asks each service inward for its part of a recipient's trail, and puts the parts together."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import aiohttp
import msgspec
import pytest
from aiohttp import web

from koinonia import clock
from koinonia.api.messages import TrailEntry, TrailEvent
from koinonia.ids import new_id
from koinonia.security import Keys, verify_identity
from koinonia.security.identity import HEADER
from koinonia.servers.ports import free_ports
from koinonia.trail import TELL, Act, DeliveryPart, Part, Question

from .conftest import Behind, Browser, StartGateway

MESSAGE, RECIPIENT = new_id(), new_id()
PATH = f"/api/messages/{MESSAGE}/recipients/{RECIPIENT}/trail"
NOW = clock.now()


def entry(service: Any, event: TrailEvent, seconds: float) -> TrailEntry:
    return TrailEntry(at=NOW + timedelta(seconds=seconds), service=service, event=event, sentence=f"{event}.")


class Services:
    """All services at one address: each tells its part, but those that are away."""

    def __init__(self, keys: Keys, owner: Browser) -> None:
        self._keys = keys
        self._church_id = owner.church_id
        self.asked: list[Question] = []
        self.parts = {
            "delivery": Part(entries=[entry("delivery", "accepted", 3), entry("delivery", "delivered", 2.5)]),
            "others": Part(
                entries=[entry("messaging", "requested", 0)],
                acts=[Act(event="requested", at=NOW + timedelta(seconds=0.2), actor_id=UUID(owner.admin_id))],
            ),
        }

    async def act(self, request: web.Request) -> web.StreamResponse:
        caller = verify_identity(self._keys, request.headers[HEADER], method=request.method, path=request.path)
        assert str(caller.church_id) == self._church_id
        if request.path == TELL.path:
            self.asked.append(msgspec.json.decode(await request.read(), type=Question))
            return web.Response(body=msgspec.json.encode(self.parts["others"]))
        if request.path != f"/internal/messages/{MESSAGE}/recipients/{RECIPIENT}/trail":
            return web.Response(status=404)
        question = Question(
            recipient_id=RECIPIENT,
            source_id=MESSAGE,
            kind="broadcast",
            phone_index=b"i",
            status="delivered",
            accepted_at=NOW,
            until=NOW,
        )
        begun = DeliveryPart(church_id=UUID(self._church_id), question=question, part=self.parts["delivery"])
        return web.Response(body=msgspec.json.encode(begun))


@pytest.fixture
async def services(owner: Browser, behind: Behind, keys: Keys) -> Services:
    found = Services(keys, owner)
    behind.act = found.act
    return found


async def test_parts_are_put_together_with_the_names_of_who_did_what(owner: Browser, services: Services) -> None:
    services.parts["others"] = msgspec.structs.replace(services.parts["others"], traceparent="00-abc-def-01")
    status, trail = await owner.call("GET", PATH)
    assert status == 200
    assert (trail["messageId"], trail["recipientId"], trail["status"]) == (str(MESSAGE), str(RECIPIENT), "delivered")
    assert trail["missing"] == []
    assert [each["event"] for each in trail["entries"]] == [*["requested"] * 4, "accepted", "delivered"]
    first = trail["entries"][0]
    assert (first["actor"]["name"], first["actor"]["kind"]) == ("Ruth Miller", "admin")
    assert first["sentence"] == "Ruth Miller asked for it."
    assert [question.recipient_id for question in services.asked] == [RECIPIENT] * 4
    assert "abc" not in msgspec.json.encode(trail).decode()  # the trace is for operators


async def test_what_is_not_the_churchs_is_not_there(owner: Browser, services: Services) -> None:
    status, answer = await owner.call("GET", f"/api/messages/{RECIPIENT}/recipients/{MESSAGE}/trail")
    assert (status, answer["error"]["code"]) == (404, "NOT_FOUND")
    assert services.asked == []
    assert (await owner.call("GET", "/api/messages/x/recipients/y/trail"))[0] == 404


async def test_a_service_that_is_away_is_named_and_delivery_cannot_be_missing(
    start_gateway: StartGateway, services: Services, owner: Browser
) -> None:
    (nobody,) = free_ports(1)
    away = f"http://127.0.0.1:{nobody}"
    without_billing = await start_gateway(billing_url=away)
    status, trail = await owner.call("GET", PATH, url=without_billing.url)
    assert (status, trail["missing"]) == (200, ["billing"])
    assert [each["event"] for each in trail["entries"]] == [*["requested"] * 3, "accepted", "delivered"]
    without_delivery = await start_gateway(delivery_url=away)
    status, answer = await owner.call("GET", PATH, url=without_delivery.url)
    assert (status, answer["error"]["code"]) == (503, "DEPENDENCY_UNAVAILABLE")


async def test_a_service_that_answers_nonsense_is_named(services: Services, owner: Browser, behind: Behind) -> None:
    async def act(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"[1") if request.path == TELL.path else await services.act(request)

    behind.act = act
    status, trail = await owner.call("GET", PATH)
    assert (status, len(trail["missing"]), len(trail["entries"])) == (200, 4, 2)


async def test_a_stranger_asks_nobody(behind: Behind, owner: Browser) -> None:
    async with aiohttp.ClientSession() as session, session.get(owner.url + PATH) as answer:
        assert answer.status == 401
    assert behind.seen == []
