"""Who may call what: every route of the served page, as nobody, as the owner and as API keys of each role."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import aiohttp
import pytest

from .caller import Answer, Caller
from .church import Church
from .page import Route, all_routes

NewChurch = Callable[[], Awaitable[Church]]
Ask = Callable[[Route], Awaitable[Answer]]

ROLES = ("admin", "sender", "viewer")
STREAM_SECONDS = 10.0


def path_of(route: Route) -> str:
    """The route for a thing that nobody has."""
    return route.url(**{name: uuid4() for name in route.ids})


def expected(route: Route, role: str | None, *, is_person: bool) -> str:
    """What the page says of a caller."""
    if role is None:
        return "AUTH_ERROR"
    for_programs = {"apiKey": []} in route.operation["security"]
    return "allowed" if role in route.operation["x-roles"] and (is_person or for_programs) else "FORBIDDEN"


def told(answer: Answer) -> str:
    """How a route took its caller."""
    return answer.code if answer.status in (401, 403) else "allowed" if answer.status < 500 else str(answer.status)


@pytest.mark.asvs("v5.0.0-8.2.1")
async def test_every_route_of_the_page_answers_each_role_as_the_page_says(new_church: NewChurch) -> None:
    church = await new_church()
    url = church.platform.url
    routes = [route for route in await all_routes(url) if not route.is_public]
    async with Caller(church) as owner, aiohttp.ClientSession() as session:

        async def as_owner(route: Route) -> Answer:
            await owner.log_in()  # a route may have ended the session
            return await owner.send(route.method, path_of(route), b"{}" if route.content_types else None)

        def with_headers(headers: dict[str, str]) -> Ask:
            async def ask(route: Route) -> Answer:
                body: dict[str, str] | None = {} if route.content_types else None
                async with (
                    asyncio.timeout(STREAM_SECONDS),
                    session.request(route.method, url + path_of(route), json=body, headers=headers) as answer,
                ):
                    return Answer(answer.status, answer.headers, await answer.read())

            return ask

        callers: list[tuple[str | None, bool, Ask]] = [(None, False, with_headers({})), ("owner", True, as_owner)]
        for role in ROLES:
            bearer = {"Authorization": f"Bearer {await church.api_key(role)}"}
            callers.append((role, False, with_headers(bearer)))
        found = {
            (str(route), role): (told(await ask(route)), expected(route, role, is_person=is_person))
            for route in routes
            for role, is_person, ask in callers
        }
    assert {cell: both for cell, both in found.items() if both[0] != both[1]} == {}
    assert len(found) == len(routes) * len(callers) > 250
