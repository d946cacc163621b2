"""What is wrong with an answer, and whether the platform has come through."""

from collections.abc import Iterator
from uuid import UUID

from koinonia.testing.fixtures import wait_until

from .caller import Answer, Caller
from .church import Church
from .page import Route
from .platform import Platform
from .test_restarts import is_drained

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
SERVICES = ("gateway", "messaging", "delivery", "conversation", "billing", "compliance")


def fault_of(route: Route, answer: Answer) -> str | None:
    """What is wrong with an answer to rubbish."""
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


def failed_requests(platform: Platform) -> list[dict[str, object]]:
    """What the services have logged as a failed request, or the library as an error."""
    return [
        entry
        for service in SERVICES
        for event in ("request_failed", "Unhandled exception")
        for entry in platform.entries(service, event)
    ]


def requests_with(platform: Platform, start: str) -> Iterator[str]:
    """The ids of served requests, at any service, that begin so."""
    for service in SERVICES:
        for entry in platform.entries(service, "request_served"):
            if str(entry["request_id"]).startswith(start):
                yield str(entry["request_id"])


async def send_at_once(church: Church, caller: Caller) -> None:
    """Take back what settings may hold texts up by, and wait until all know: at night, an example's hours are quiet."""
    at_once = {"undoSeconds": 0, "approvalAbove": None, "quietHours": None, "weeklyLimit": None}
    assert (await caller.send_json("PATCH", f"/api/churches/{church.id}/settings", at_once)).status == 200
    await wait_until(lambda: is_drained(church.platform), what="the news of the settings")


async def still_works(church: Church) -> None:
    """Texts still go out, once each."""
    (anna,) = await church.add(1)
    wanted: list[UUID] = [member.id async for member in church.client.members.list(search=anna.phone)]
    sent = await church.send("After all that.", "individual", wanted)
    await church.client.messages.wait_until_completed(sent.id, timeout_seconds=90)
    assert [row.status for row in await church.agrees(sent.id)] == ["delivered"]
    assert await church.platform.dead_letters() == "no dead letters"
