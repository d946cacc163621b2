"""What is asked of the gateway and of the bare hop: the same requests, of the same twenty callers."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from bench.platform import Carrier, Church, until
from bench.work import TEXT, phone
from koinonia import clock
from koinonia.api import ENDPOINTS, branches, conversations, messages
from koinonia.api.auth import ApiKeyRequest
from koinonia.api.endpoint import Endpoint
from koinonia.api.messages import SendRequest
from koinonia.security.identity import HEADER, Identity, sign_identity
from koinonia.security.keys import Keys

PRINCIPALS = 20
PEOPLE = 100  # whom a broadcast goes to
LISTED = 20  # a page
DASHBOARD = "/api/analytics/stats"
_ROLE: Final = "admin"
_IDENTITY_HOURS = 12


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One of the routes that are measured, and what is aimed at for it."""

    name: str
    endpoint: Endpoint
    wanted_rate: float
    wanted_p95_ms: float
    body: str = ""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """One of the twenty: the key that the gateway knows it by, and who it is behind it."""

    id: UUID
    key: str


async def gather(church: Church, carrier: Carrier) -> Sequence[Caller]:
    """Twenty keys of the church, and a page of messages and of conversations; ``PEOPLE`` are there already."""
    made = [
        await church.client.api_keys.create(ApiKeyRequest(name=f"Program {number}", role=_ROLE))
        for number in range(PRINCIPALS)
    ]
    for _ in range(LISTED):
        await church.send(PEOPLE, TEXT, scheduled_at=_in_a_week())
    for number in range(LISTED):
        await carrier.text(phone(number), church.number, "Thank you, see you there!")

    async def all_threaded() -> bool:
        return len([each async for each in church.client.conversations.list()]) >= LISTED

    await until(all_threaded, seconds=60, what="the inbox", pause_seconds=0.2)
    return [Caller(id=each.api_key.id, key=each.key or "") for each in made]


def all_routes(church: Church) -> Sequence[Route]:
    """The four, reads first: sends make the lists that are read no longer, yet the tables behind them."""
    dashboard, name = _dashboard()
    send = SendRequest(
        content=TEXT,
        target_type="groups",
        target_ids=[church.group(PEOPLE)],
        scheduled_at=_in_a_week(),
        allow_duplicate=True,
    )
    body = msgspec.json.encode(send).decode()
    return (
        Route(name="message list", endpoint=messages.LIST, wanted_rate=2000, wanted_p95_ms=50),
        Route(name="conversation list", endpoint=conversations.LIST, wanted_rate=1500, wanted_p95_ms=100),
        Route(name=name, endpoint=dashboard, wanted_rate=500, wanted_p95_ms=200),
        Route(name="send", endpoint=messages.SEND, wanted_rate=200, wanted_p95_ms=500, body=body),
    )


def of_gateway(route: Route, callers: Sequence[Caller]) -> list[tuple[str, str]]:
    """The requests as a church's programs make them."""
    return [(_head(route, f"Authorization: Bearer {caller.key}\r\n"), route.body) for caller in callers]


def of_hop(route: Route, callers: Sequence[Caller], keys: Keys, church_id: UUID) -> list[tuple[str, str]]:
    """The same as a service wants them: signed beforehand, so that the hop has no work with it."""
    return [
        (_head(route, f"{HEADER}: {_signed(route, caller, keys, church_id)}\r\n"), route.body) for caller in callers
    ]


def _dashboard() -> tuple[Endpoint, str]:
    """The dashboard's figures; a list of the same service stands in for them where they are not served."""
    served = next((each for each in ENDPOINTS if (each.method, each.path) == ("GET", DASHBOARD)), None)
    return (branches.LIST, "branches (for want of a dashboard)") if served is None else (served, "dashboard")


def _head(route: Route, caller: str) -> str:
    return f"{route.endpoint.method} {route.endpoint.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\n{caller}"


def _signed(route: Route, caller: Caller, keys: Keys, church_id: UUID) -> str:
    identity = Identity(
        church_id=church_id,
        principal_id=caller.id,
        principal_kind="api_key",
        role=_ROLE,
        mfa_verified=False,
        address="127.0.0.1",
        request_id="bench",
        expires_at=clock.now() + timedelta(hours=_IDENTITY_HOURS),
        method=route.endpoint.method,
        path=route.endpoint.path,
    )
    return sign_identity(keys, identity)


def _in_a_week() -> datetime:
    """Sending that does not begin while anybody measures."""
    return datetime.now(UTC) + timedelta(days=7)
