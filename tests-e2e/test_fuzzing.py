"""Requests made from the page, as an owner: what it allows is done or refused for a reason, the rest by its name.

Each route is taken with a request that succeeds, in which one field at a time is then exchanged: for values that its
schema allows, and for values that it does not.
"""

import asyncio
import json
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest

from .caller import Answer, Caller
from .church import PASSWORD, Church, people
from .estates import make_estates
from .page import Route, all_routes
from .tenants import KEY, POSITION, REQUESTS, Ask, New, Of, figures
from .values import Schema, in_query
from .verdict import CODES, failed_requests, still_works

RIGHT, WRONG = 4, 8
AT_ONCE = 8
UNKNOWN = "whatIsThis"
# Whose answers do not depend on what else is sent: an unknown parameter is no error there.
HEEDLESS = {
    "GET /alive": "a probe's",
    "GET /health": "a probe's",
    "GET /ready": "a probe's",
    "GET /api/docs": "a document",
    "GET /api/openapi.json": "a document",
    "POST /api/webhooks/telnyx/mms": "signed: see test_forged_webhooks.py, where its fields are named",
    "POST /api/webhooks/telnyx/status": "signed: see test_forged_webhooks.py, where its fields are named",
}
MAKES_CHURCHES = "POST /api/auth/register"


@dataclass(frozen=True)
class Case:
    """A request that differs in one field from one that succeeds."""

    name: str
    value: Any
    is_right: bool
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None

    def __str__(self) -> str:
        return f"{self.name}={str(self.value)[:60]!r}"


class Good:
    """The request of a route that its owner gets 2xx for."""

    def __init__(self, route: Route, church: Church, estate: dict[str, str]) -> None:
        self.route = route
        asks = [ask for ask in REQUESTS.get(str(route), [Ask()]) if ask.owner < 300 and ask.csv is None]
        self._ask = asks[0]
        self.succeeded = False
        self._church = church
        self._estate = estate

    @property
    def path(self) -> str:
        return self.route.url(**{name: self._estate[of.kind] for name, of in self._ask.path.items()})

    def body(self) -> Any:
        """A new one each time, where it has what must be new."""
        open_bodies = {
            "POST /api/auth/login": {"email": self._church.email, "password": PASSWORD},
            MAKES_CHURCHES: {
                "churchName": "Grace Chapel",
                "firstName": "Ruth",
                "lastName": "Miller",
                "email": f"owner.{secrets.token_hex(6)}@church.example",
                "password": PASSWORD,
            },
        }
        return open_bodies.get(str(self.route)) or self._filled(self._ask.body)

    def _filled(self, given: Any) -> Any:
        if isinstance(given, Of):
            return self._estate[given.kind]
        if isinstance(given, New):
            return people(1)[0].phone if given.form.startswith("+") else given.form.format(figures())
        if isinstance(given, dict):
            return {name: self._filled(each) for name, each in given.items()}
        return [self._filled(each) for each in given] if isinstance(given, list) else given

    def cases(self) -> Iterator[Case]:
        """One field after the other, right and wrong."""
        for parameter in self.route.operation.get("parameters", []):
            if parameter["in"] == "query":
                yield from self._of_query(parameter)
            if parameter["in"] == "header":
                yield from self._of_header(parameter["name"])
        if str(self.route) not in HEEDLESS:
            yield Case(UNKNOWN, "1", is_right=False, query={UNKNOWN: "1"}, body=self.body())
        if self.route.fields:
            yield from self._of_body()

    def _of_query(self, parameter: dict[str, Any]) -> Iterator[Case]:
        name, form = parameter["name"], parameter["schema"]
        schema = Schema(form, self.route.schemas)
        texts = [
            str(value) for value in (*schema.right(RIGHT), *schema.wrong(WRONG)) if not isinstance(value, list | dict)
        ]
        for text in dict.fromkeys(texts):
            is_right = schema.is_right(in_query(form, text)) and name != "cursor"
            yield Case(name, text, is_right, query={name: text})

    def _of_header(self, name: str) -> Iterator[Case]:
        right = {KEY: [secrets.token_hex(8)], POSITION: ["0"]}[name]
        wrong = {KEY: ["", "a b", "k" * 256, "é"], POSITION: ["x", "-1", "1.5"]}[name]
        for value in (*right, *wrong):
            yield Case(name, value, value in right, headers={name: value}, body=self.body())

    def _of_body(self) -> Iterator[Case]:
        shape = self._shape()
        for name, form in shape["properties"].items():
            schema = Schema(form, self.route.schemas)
            right = 1 if str(self.route) == MAKES_CHURCHES else RIGHT
            for value in schema.right(right):
                yield Case(name, value, is_right=True, body={**self.body(), name: value})
            for value in schema.wrong(WRONG):
                yield Case(name, value, is_right=False, body={**self.body(), name: value})
        for name in shape.get("required", []):
            body = self.body()
            del body[name]
            yield Case(name, "left out", is_right=False, body=body)
        yield Case(UNKNOWN, 1, is_right=False, body={**self.body(), UNKNOWN: 1})

    def _shape(self) -> dict[str, Any]:
        content = self.route.operation["requestBody"]["content"]["application/json"]
        shape: dict[str, Any] = self.route.schemas[content["schema"]["$ref"].rpartition("/")[2]]
        return shape

    async def send(self, caller: Caller, case: Case | None = None) -> Answer:
        """Send it, changed by the case."""
        case = case or Case("", "", is_right=True, body=self.body())
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in case.query.items())
        path = self.path + (f"?{query}" if query else "")
        body = json.dumps(case.body).encode() if self.route.content_types and case.body is not None else None
        return await caller.send(self.route.method, path, body, case.headers)


def unlike_the_page(route: Route, answer: Answer) -> str | None:
    """What of an answer the page does not say: status, content type, shape."""
    if answer.status not in route.statuses:
        return f"status {answer.status} is not on the page: {answer.body[:200]!r}"
    said = route.operation["responses"][str(answer.status)]
    if "$ref" in said:
        said = route.responses[said["$ref"].rpartition("/")[2]]
    content = said.get("content", {})
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    if not content:
        return f"a body: {answer.body[:100]!r}" if answer.body else None
    if kind not in content:
        return f"content type {kind}"
    if kind != "application/json":
        return None
    faults = Schema(content[kind]["schema"], route.schemas).faults(answer.json())
    return f"{faults}: {answer.body[:200]!r}" if faults else None


def fault_of(route: Route, case: Case, answer: Answer) -> str | None:
    """What is wrong with the answer to a case."""
    if (fault := unlike_the_page(route, answer)) is not None:
        return fault
    if answer.status < 300:
        return None if case.is_right or has_reported(route, answer) else f"taken: {answer.body[:150]!r}"
    if answer.code not in CODES.get(answer.status, set()):
        return f"{answer.status} {answer.body[:200]!r}"
    names = {name_of(detail["field"]) for detail in answer.json()["error"]["details"]}
    if case.is_right:
        known = {*route.fields, *route.query, case.name}
        return None if answer.status != 400 or (names and names <= known) else f"refused for {names}"
    return None if (answer.status, names) == (400, {case.name}) else f"{answer.status}, naming {names}"


def name_of(path: str) -> str:
    """The field of the body that a path begins with."""
    return path.partition(".")[0].partition("[")[0]


def has_reported(route: Route, answer: Answer) -> bool:
    """An import takes what is good and names the rest by row and field."""
    return str(route) == "POST /api/members/import" and bool(answer.json()["errors"])


@pytest.fixture
async def owner(church: Church) -> AsyncIterator[Caller]:
    async with Caller(church) as caller:
        yield caller


@pytest.mark.timeout(300)
async def test_every_route_is_reached_with_success_and_with_the_name_of_each_wrong_field(
    church: Church, owner: Caller
) -> None:
    routes = await all_routes(church.platform.url)
    estate, _ = await make_estates(church, owner, 2)
    order = list(REQUESTS)
    routes.sort(key=lambda route: order.index(str(route)) if str(route) in order else -1)
    faults: list[str] = []
    reached: dict[str, Counter[str]] = defaultdict(Counter)
    for route in routes:
        if "webhooks" in route.path:
            continue
        good = Good(route, church, estate)
        async with Caller(church) as caller:  # a session of its own: a route may end it
            waiting = good.cases()

            async def go_on(good: Good = good, caller: Caller = caller, waiting: Iterator[Case] = waiting) -> None:
                for case in waiting:
                    answer = await good.send(caller, case)
                    fault = fault_of(good.route, case, answer)
                    good.succeeded |= answer.status < 300
                    faults.extend([f"{good.route}, {case}: {fault}"] if fault else [])
                    reached[str(good.route)][f"{case.name} {answer.status}"] += 1

            await asyncio.gather(*(go_on() for _ in range(AT_ONCE if "auth" not in route.path else 1)))
            if route.method == "DELETE" or not route.path.endswith("logout"):
                await owner.log_in()
            if not good.succeeded:  # nothing that was sent so far was whole and right
                answer = await good.send(caller if "auth" in route.path else owner)
                fault = unlike_the_page(route, answer)
                if answer.status >= 300 or fault:
                    faults.append(f"{route}, as it should be: {answer.status} {fault} {answer.body[:200]!r}")
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:60])
    for route in routes:
        if str(route) in HEEDLESS:
            continue
        named = reached[str(route)]
        assert all(named[f"{name} 400"] for name in (*route.fields, *route.query, UNKNOWN)), f"{route}: {named}"
    assert sum(sum(counts.values()) for counts in reached.values()) > 2000
    assert failed_requests(church.platform) == []
    await still_works(church)
