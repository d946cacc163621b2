"""Another church's things are not there: naming them, wherever a route takes a name, is as naming what never was."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import pytest

from .caller import Answer, Caller
from .church import Church
from .estates import Belongings, make_estates, uuids_in
from .page import Route, all_routes
from .tenants import (
    IN_THE_END,
    KEY,
    OPEN,
    POSITION,
    REQUESTS,
    UUIDS,
    Ask,
    Filled,
    New,
    Of,
    Things,
    figures,
    identifiers,
    nobodys,
    untried,
)

NewChurch = Callable[[], Awaitable[Church]]

REPLAYED = "Idempotent-Replayed"
ROTATE = "POST /api/admin/api-keys/{id}/rotate"  # a key may rotate itself alone
UNLIKE = frozenset({"date", "x-request-id"})
_TIMES = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
_KEYS = re.compile(r"koi_live_\w+")
_REQUEST_IDS = re.compile(r'"requestId":"[^"]*"')
_FIGURES = re.compile(r"\d+")


READ_AGAIN = 6


@pytest.mark.timeout(480)
@pytest.mark.asvs("v5.0.0-8.2.2", "v5.0.0-8.4.1")
async def test_naming_what_is_another_churchs_is_as_naming_what_never_was(new_church: NewChurch) -> None:
    theirs, ours = await new_church(), await new_church()
    routes = {str(route): route for route in await all_routes(ours.platform.url)}
    assert untried(list(routes.values())) == []
    belongings = Belongings(ours)
    async with Caller(theirs) as owner, Caller(ours) as stranger:
        spent, live = await make_estates(theirs, owner, 2)
        own, twin = await make_estates(ours, stranger, 2)
        api_key = await ours.api_key()
        used = [each async for each in ask_all(owner, routes, spent, with_keys=True)]

        before, before_ours = await belongings.settled([theirs, ours])
        secret = uuids_in(before) - uuids_in(before_ours) | {theirs.number}
        secret |= {each[kind] for each in (spent, live) for kind in ("word", "phone")}
        trial = Trial(stranger, secret, known=uuids_in(before_ours))
        for name, asks in REQUESTS.items():
            for ask in asks:
                await trial.name_theirs(routes[name], ask, own, live)
                await trial.name_theirs(routes[name], ask, own, spent)
        for request in used:
            await trial.use_their_key(request, spent, twin, api_key)
        assert not trial.faults, f"{len(trial.faults)} of {trial.cells} answers:\n" + "\n".join(trial.faults[:40])
        assert trial.cells > 200
        after, _ = await belongings.settled([theirs, ours])
        assert {table: rows for table, rows in after.items() if rows != before[table]} == {}

        assert [each async for each in ask_all(owner, routes, live)]  # all this while it was there
        again = [(request, await send(owner, request.sent)) for request in used]
        for request, answer in again:  # their keys were theirs all the while; of what is gone by now there is no answer
            replayed = (answer.status, answer.headers.get(REPLAYED)) == (request.ask.owner, "true")
            assert replayed or answer.status == 404, f"{request.sent}: {answer}"
        assert sum(answer.status != 404 for _, answer in again) > len(used) / 2
        for name, ask in IN_THE_END.items():
            new: list[str] = []
            request = ask.filled(routes[name], lambda _place: live, newly(new))
            request.headers[KEY] = f"key-{uuid4()}"
            answer = await send(owner, request)
            assert ask.is_answered(answer.status), answer
            await trial.use_their_key(Used(routes[name], ask, request, new), live, twin, api_key)
        assert trial.faults == []


@dataclass
class Used:
    """A request that its owner has sent, with what was new in it."""

    route: Route
    ask: Ask
    sent: Filled
    new: list[str]


async def ask_all(owner: Caller, routes: Mapping[str, Route], things: Things, *, with_keys: bool = False) -> Any:
    """Ask every route for the owner's own things, and see that each is there; or, under keys, what takes a key."""
    for name, asks in REQUESTS.items():
        route = routes[name]
        for ask in asks:
            keyed = with_keys and route.is_idempotent and ask.owner < 300
            if with_keys and not keyed:
                continue
            new: list[str] = []
            request = ask.filled(route, lambda _place: things, newly(new))
            if keyed:
                request.headers[KEY] = f"key-{uuid4()}"
            answer = await send(owner, request)
            assert answer.status == ask.owner, f"{route} as its owner, {request}: {answer}"
            if ask.query.keys() - {"cursor"}:
                found = (
                    answer.body.splitlines()[1:] if "csv" in answer.headers["Content-Type"] else answer.json()["data"]
                )
                assert found, f"{route} as its owner finds nothing: {request}"
            yield Used(route, ask, request, new)


@dataclass
class Trial:
    """Asks as a stranger, and notes what an answer gave away."""

    stranger: Caller
    secret: set[str]
    known: set[str]  # the stranger's own ids
    faults: list[str] = field(default_factory=list)
    cells: int = 0

    async def name_theirs(self, route: Route, ask: Ask, own: Things, theirs: Things) -> None:
        """At each place of an identifier, and at all of them, theirs and nobody's: no difference."""
        nobody = nobodys(theirs)
        for places in combinations(ask):
            told = f"{route} with theirs at {', '.join(places) or 'no place'}"
            answers = [await self._ask(route, ask, places, own, named) for named in (theirs, nobody)]
            for _ in range(READ_AGAIN if route.method == "GET" else 0):
                if answers[0] == answers[1]:
                    break
                await asyncio.sleep(0.5)  # events of our own arrive between two reads; what is given away, is each time
                answers = [await self._ask(route, ask, places, own, named) for named in (theirs, nobody)]
            self._compare(told, *answers)

    async def use_their_key(self, used: Used, theirs: Things, own: Things, api_key: str) -> None:
        """Their request under their key is as nobody's under nobody's; our own under their key has its own effect."""
        told, key = f"{used.route} with their key", used.sent.headers[KEY]
        kinds = used.ask.places()
        if kinds and not any(
            kind.startswith("external id") for kind in kinds.values()
        ):  # those we have taken on by now
            answers = [
                await self._ask(used.route, used.ask, list(kinds), {}, named, key=sent)
                for named, sent in ((theirs, key), (nobodys(theirs), f"key-{uuid4()}"))
            ]
            self._compare(f"{told} and theirs", *answers)
        repeated = iter(used.new)
        request = used.ask.filled(used.route, lambda _place: own, lambda _form: next(repeated))
        request.headers.update({KEY: key})
        if {"apiKey": []} in used.route.operation["security"] and str(used.route) != ROTATE:
            request.headers["Authorization"] = f"Bearer {api_key}"  # another of our principals
        for replayed in (None, "true"):
            answer = await self._send(request)
            if not used.ask.is_answered(answer.status) or answer.headers.get(REPLAYED) != replayed:
                self.faults.append(f"{told} and our own: {answer}")

    async def _ask(
        self, route: Route, ask: Ask, places: list[str], own: Things, named: Things, *, key: str = ""
    ) -> dict[str, Any]:
        new: list[str] = []
        request = ask.filled(route, lambda place: named if place in places else own, newly(new))
        request.headers.update({KEY: key} if key else {})
        answer = await self._send(request)
        return self._normal(answer, {kind: named[kind] for place, kind in ask.places().items() if place in places}, new)

    async def _send(self, request: Filled) -> Answer:
        self.cells += 1
        answer = await send(self.stranger, request)
        sent = f"{request}"
        given_away = [each for each in self.secret if each not in sent and each in answer.body.decode()]
        if given_away or answer.status >= 500:
            self.faults.append(f"{request} gives away {given_away}: {answer}")
        return answer

    def _compare(self, told: str, one: dict[str, Any], other: dict[str, Any]) -> None:
        self.faults += [f"{told}, {name}: {one[name]} is not {other[name]}" for name in one if one[name] != other[name]]

    def _normal(self, answer: Answer, named: Things, new: list[str]) -> dict[str, Any]:
        """An answer without what must differ: times, the request's id, new ids and words, and what was named."""
        text = _REQUEST_IDS.sub("", answer.body.decode())
        for place, value in enumerate(new):
            text = text.replace(value, f"<new {place}>")
        text = _KEYS.sub("<key>", _TIMES.sub("<time>", text))
        for kind, value in named.items():
            if kind == "position":  # a count, which may stand for anything
                continue
            text = re.sub(rf"\b{re.escape(value)}\b", f"<{kind}>", text)
        text = UUIDS.sub(lambda found: found[0] if found[0] in self.known else "<id>", text)
        headers = {name.lower(): value for name, value in answer.headers.items() if name.lower() not in UNLIKE}
        rates = {name: _FIGURES.sub("", value) for name, value in headers.items() if name.startswith("ratelimit")}
        return {"status": answer.status, "headers": headers | rates, "body": text}


def combinations(ask: Ask) -> Iterator[list[str]]:
    """Each place of an identifier by itself, then all together; where there is none, none."""
    places = list(ask.places())
    yield from ([place] for place in places)
    if len(places) != 1:
        yield places


def newly(noted: list[str]) -> Callable[[New], str]:
    """Makes new values, and notes them."""

    def make(new: New) -> str:
        noted.append(new.form.format(figures()))
        return noted[-1]

    return make


async def send(caller: Caller, request: Filled) -> Answer:
    return await caller.send(request.method, request.path, request.body, request.headers)


def a_route(path: str, *, method: str = "POST", body: dict[str, Any] | None = None, **parameters: Any) -> Route:
    """A route as a page has it."""
    operation: dict[str, Any] = {
        "security": [{"session": []}],
        "parameters": [{"name": name, "in": where, "schema": schema} for name, (where, schema) in parameters.items()],
        "responses": {},
    }
    if body is not None:
        operation["requestBody"] = {"content": {"application/json": {"schema": {"properties": body}}}}
    row = {"properties": {"memberId": {"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}]}}}
    return Route(method, path, operation, {"Row": row})


def test_a_new_route_that_nobody_tries_is_told_with_what_to_add() -> None:
    (told,) = [each for each in untried([a_route("/api/pictures")]) if "no route any more" not in each]
    assert told == (
        "POST /api/pictures is not tried as another church: add it to `REQUESTS` in tests-e2e/tenants.py, with a "
        "request that its owner gets 2xx for; or, where it has no church, to `OPEN`, with the reason."
    )


def test_a_new_place_of_an_identifier_is_told_with_what_to_add() -> None:
    uuid, text = {"type": "string", "format": "uuid"}, {"type": "string"}
    places = {
        "query templateId": a_route("/api/branches", templateId=("query", uuid)),
        "query cursor": a_route("/api/branches", cursor=("query", text)),
        "header X-Thing-Id": replace(a_route("/api/branches"), operation=header("X-Thing-Id", text)),
        f"header {POSITION}": replace(a_route("/api/branches"), operation=header(POSITION, text)),
        "body templateId": a_route("/api/branches", body={"templateId": uuid}),
        "body externalId": a_route("/api/branches", body={"externalId": {"anyOf": [text, {"type": "null"}]}}),
        "body ids[]": a_route("/api/branches", body={"ids": {"type": "array", "items": uuid}}),
        "body deep.list[].ownerId": a_route(
            "/api/branches",
            body={"deep": {"properties": {"list": {"items": {"properties": {"ownerId": uuid}}}}}},
        ),
        "body rows[].memberId": a_route(
            "/api/branches", body={"rows": {"items": {"$ref": "#/components/schemas/Row"}}}
        ),
    }
    for place, route in places.items():
        assert list(identifiers(route)) == [place]
        (told,) = [each for each in untried([route]) if "no route any more" not in each]
        assert told.startswith(
            f"POST /api/branches takes an identifier at {place!r} that is not tried as another church"
        )
        assert "let a request of `REQUESTS['POST /api/branches']` have `Of(<kind>)` there" in told


def test_a_route_whose_key_or_whose_success_nobody_tries_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    keyed = replace(a_route("/api/messages/stop"), operation=header(KEY, {"type": "string"}))
    given = a_route("/api/branches", body={"branchId": {"type": "string", "format": "uuid"}})
    monkeypatch.delitem(IN_THE_END, str(keyed))
    monkeypatch.setitem(REQUESTS, str(given), [Ask(body={"branchId": Of("home")}, owner=409), Ask(owner=201)])
    key, place = [each for each in untried([keyed, given]) if "no route any more" not in each]
    assert key.startswith("POST /api/messages/stop takes an idempotency key, and another church's is not tried")
    assert place.startswith("POST /api/branches with an identifier at 'body branchId' is not tried with a request that")
    monkeypatch.setitem(REQUESTS, str(given), [Ask(body={"branchId": Of("home")}, owner=409)])
    whole, place = [each for each in untried([given]) if "no route any more" not in each]
    assert whole == "POST /api/branches is not tried with a request that its owner gets 2xx for"
    assert place.startswith("POST /api/branches with an identifier at 'body branchId'")


def test_a_route_that_is_gone_is_told() -> None:
    assert "GET /api/auth/me is no route any more: take it out of tests-e2e/tenants.py." in untried([])


def test_a_route_is_not_left_out_that_is_for_principals() -> None:
    (told,) = [each for each in untried([a_route("/api/auth/login")]) if "no route any more" not in each]
    assert told == "POST /api/auth/login is for principals, and `OPEN` leaves it out"
    assert all(OPEN.values())


def header(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"security": [{}], "parameters": [{"name": name, "in": "header", "schema": schema}], "responses": {}}
