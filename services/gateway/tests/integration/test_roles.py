"""Who may call what: every route, as nobody, as a person and as an API key of every role, from the table of routes."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import get_args

import pytest
from aiohttp import web

from koinonia.api import ENDPOINTS, Endpoint, Role
from koinonia.db import statement
from koinonia.ids import new_id

from .conftest import Answer, Behind, Browser, NewBrowser, Service
from .test_churches import key_of

SET_ROLE = statement("test.set_role", "UPDATE admins SET role = $2 WHERE id = $1")
ROUTES = [endpoint for endpoint in ENDPOINTS if endpoint.access == "principal"]


@dataclass(frozen=True)
class Caller:
    """Somebody of one role; nobody has none."""

    name: str
    role: Role | None
    is_person: bool
    call: Callable[[Endpoint], Awaitable[Answer]]

    def expects(self, endpoint: Endpoint) -> str:
        if self.role is None:
            return "AUTH_ERROR"
        return "allowed" if endpoint.may_call(self.role, is_person=self.is_person) else "FORBIDDEN"


async def nothing_here(_request: web.Request) -> web.StreamResponse:
    """A service that has nothing of what is asked for."""
    return web.json_response({"error": {"code": "NOT_FOUND"}}, status=404)


async def person(gateway: Service, browser: Browser, role: Role) -> Caller:
    """A church's founder, who is given this role before the session begins."""
    email = f"{role}@roles.example"
    await browser.register(email=email)
    async with gateway.parts.database.across_churches() as tx:
        assert await tx.execute(SET_ROLE, browser.admin_id, role) == 1

    async def call(endpoint: Endpoint) -> Answer:
        assert (await browser.log_in(email=email))[0] == 200  # a route may have ended the session
        return await ask(browser, endpoint)

    return Caller(role, role, True, call)


async def program(browser: Browser, owner: Browser, role: Role) -> Caller:
    """An API key of this role."""
    _, headers = await key_of(owner, role)

    async def call(endpoint: Endpoint) -> Answer:
        return await ask(browser, endpoint, headers=headers, csrf=False)

    return Caller(f"key of a {role}", role, False, call)


async def ask(
    browser: Browser, endpoint: Endpoint, *, headers: dict[str, str] | None = None, csrf: bool = True
) -> Answer:
    """Call a route for a thing that is not there, with an empty body."""
    path = endpoint.url(**{name: new_id() for name in endpoint.parameters})
    body: dict[str, str] | None = {} if endpoint.request is not None else None
    return await browser.call(endpoint.method, path, body, headers=headers, csrf=csrf)


def told(answer: Answer) -> str:
    """How a route took its caller; who may call it is told of what is wrong otherwise, or nothing is."""
    status, body = answer
    code = body["error"]["code"] if status in (401, 403) else "allowed"
    return str(code) if status < 500 else f"{status}"


@pytest.mark.asvs("v5.0.0-6.3.4", "v5.0.0-7.2.1", "v5.0.0-8.2.1", "v5.0.0-8.3.1")
async def test_every_route_answers_each_role_as_the_table_says(
    gateway: Service, owner: Browser, browsers: NewBrowser, behind: Behind
) -> None:
    visitor = browsers()
    behind.act = nothing_here
    callers = [
        Caller("nobody", None, False, lambda endpoint: ask(visitor, endpoint)),
        *[await person(gateway, browsers(), role) for role in get_args(Role)],
        *[await program(browsers(), owner, role) for role in get_args(Role) if role != "owner"],
    ]
    faults = []
    for endpoint in ROUTES:
        for caller in callers:
            behind.seen.clear()
            found, expected = told(await caller.call(endpoint)), caller.expects(endpoint)
            if found != expected:
                faults.append(f"{endpoint.method} {endpoint.path} as {caller.name}: {found}, not {expected}")
            if behind.seen and expected != "allowed":
                faults.append(f"{endpoint.method} {endpoint.path} as {caller.name} was passed on")
            if not behind.seen and expected == "allowed" and endpoint.owner != "gateway":
                faults.append(f"{endpoint.method} {endpoint.path} as {caller.name} was not passed on")
    assert not faults, "\n".join(faults)
    assert {caller.expects(endpoint) for endpoint in ROUTES for caller in callers} == {
        "allowed",
        "FORBIDDEN",
        "AUTH_ERROR",
    }


async def test_an_api_key_cannot_be_an_owner(owner: Browser) -> None:
    status, answer = await owner.call("POST", "/api/admin/api-keys", {"name": "Site", "role": "owner"})
    assert (status, answer["error"]["details"][0]["field"]) == (400, "role")
