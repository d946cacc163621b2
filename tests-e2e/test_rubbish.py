"""Rubbish to every route as an owner: refused by name, never a crash, and the platform goes on as before."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import pytest

from .caller import Answer, Caller
from .church import Church
from .page import Route, all_routes
from .rubbish import Rubbish, rubbish_for
from .test_tenancy import make_one_of_each, place

AT_ONCE = 8
# Above 499, what the contract names for the routes that it names it for.
NAMED = {501: "FEATURE_DISABLED", 503: "DEPENDENCY_UNAVAILABLE"}
CODES = {
    400: {"VALIDATION_ERROR"},
    401: {"AUTH_ERROR"},
    402: {"PLAN_LIMIT"},
    403: {"FORBIDDEN", "CSRF_ERROR", "MFA_REQUIRED"},
    404: {"NOT_FOUND"},
    405: {"METHOD_NOT_ALLOWED"},
    409: {"CONFLICT"},
    413: {"PAYLOAD_TOO_LARGE"},
    422: {"IDEMPOTENCY_MISMATCH"},
}


@pytest.mark.timeout(180)
async def test_rubbish_to_every_route_is_refused_and_breaks_nothing(church: Church) -> None:
    things = await make_one_of_each(church)
    faults: list[str] = []
    answered: Counter[int] = Counter()
    for route in await all_routes(church.platform.url):
        ids = {name: str(things[place(route, name)]) for name in route.ids}
        async with Caller(church) as caller:  # a session of its own: a route may end it
            for batch in batches(rubbish_for(route, ids), AT_ONCE):
                answers = await asyncio.gather(*(send(caller, route, each) for each in batch))
                answered.update(answer.status for answer in answers)
                faults += [
                    f"{route}, {each.what}: {fault}"
                    for each, answer in zip(batch, answers, strict=True)
                    if (fault := fault_of(route, answer))
                ]
    assert not faults, f"{len(faults)} of {answered.total()} answers:\n" + "\n".join(faults[:40])
    assert answered[400] > 1000
    assert list(all_errors(church)) == []
    await still_works(church)


async def send(caller: Caller, route: Route, rubbish: Rubbish) -> Answer:
    """Send it; a stream is read to its end, which a final message's comes to at once."""
    return await caller.send(route.method, rubbish.path, rubbish.body, rubbish.headers)


def fault_of(route: Route, answer: Answer) -> str | None:
    """What is wrong with an answer."""
    if answer.status < 400:
        return None
    if answer.status in NAMED:
        return None if answer.code == NAMED[answer.status] and answer.status in route.statuses else str(answer)
    if answer.code not in CODES.get(answer.status, set()):
        return f"{answer.status} {answer.body[:300]!r}"
    error = answer.json()["error"]
    if error.keys() != {"code", "message", "details", "requestId"} or "Traceback" in error["message"]:
        return f"{answer.status} {error}"
    return None if answer.headers.get("X-Request-Id") else f"{answer.status} without X-Request-Id"


def all_errors(church: Church) -> Iterator[dict[str, object]]:
    """What the services have logged as a failed request."""
    for service in ("gateway", "messaging", "delivery", "conversation", "billing", "compliance"):
        yield from church.platform.entries(service, "request_failed")


async def still_works(church: Church) -> None:
    """Texts still go out, once each."""
    (anna,) = await church.add(1)
    wanted = [member.id async for member in church.client.members.list(search=anna.phone)]
    sent = await church.send("After all that.", "individual", wanted)
    await church.client.messages.wait_until_completed(sent.id, timeout_seconds=30)
    assert [row.status for row in await church.agrees(sent.id)] == ["delivered"]
    assert await church.platform.dead_letters() == "no dead letters"


def batches(items: Iterator[Rubbish], size: int) -> Iterator[list[Rubbish]]:
    """So many at a time."""
    while batch := list(islice(items, size)):
        yield batch
