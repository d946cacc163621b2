"""Requests made from the page, as an owner: what it allows is done or refused for a reason, the rest by its name.

Each route is taken with a request that succeeds, in which one field at a time is then exchanged: for values that its
schema allows, and for values that it does not; so is what lies in the fields, each item and each field of theirs, and
each cell of a table.
"""

import asyncio
import json
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest

from .caller import Answer, Caller
from .church import PASSWORD, Church, people
from .estates import make_estates
from .page import Route, all_routes
from .tenants import KEY, NAMELESS, POSITION, REQUESTS, Ask, New, Of, figures
from .values import ANY_NAME, ODD, Schema, in_query
from .verdict import CODES, failed_requests, send_at_once, still_works

RIGHT, WRONG, WRONG_WITHIN = 4, 8, 2
AT_ONCE = 8
UNKNOWN = "whatIsThis"
# Whose answers do not depend on what else is sent: an unknown parameter is no error there.
HEEDLESS = {
    "GET /alive": "a probe's",
    "GET /health": "a probe's",
    "GET /ready": "a probe's",
    "GET /api/docs": "a document",
    "GET /api/openapi.json": "a document",
    "POST /api/webhooks/stripe": "signed: see the gateway's test_stripe.py, where its fields are named",
    "POST /api/webhooks/telnyx/mms": "signed: see test_forged_webhooks.py, where its fields are named",
    "POST /api/webhooks/telnyx/status": "signed: see test_forged_webhooks.py, where its fields are named",
}
# Which nothing that is sent here carries out: test_proofs.py does. See the gateway's test_passwords.py, too,
# test_sessions.py, test_mfa.py and test_admins.py.
NEVER_DONE = {
    "POST /api/auth/password/change": "it would end the sessions of the church's other callers",
    "POST /api/auth/invitations/accept": "its token comes by e-mail",
    "POST /api/auth/password/reset": "its token comes by e-mail",
    "POST /api/auth/phone/confirm": "its code comes by text",
    "POST /api/admin/mfa/enable": "any password but the church's own is a wrong one",
    "DELETE /api/auth/sessions": "it would end the sessions of the church's other callers",
    **{
        f"POST /api/admin/mfa/{each}": "it wants an app's code"
        for each in ("confirm", "verify", "recovery-codes", "disable")
    },
}
NOT_IT = "this is not the password"
IN_TURN = ("auth", "PATCH /api/members/{id}")  # the last that is said holds: a session; consent, given after it was not
MFA_BODY = {"code": "492039"}
MAKES_CHURCHES = "POST /api/auth/register"
IMPORTS = "POST /api/members/import"
ROW = "MemberRequest"  # what the cells of an import's row make
TRUTHS = dict.fromkeys(("true", "yes", "y", "1", "x"), True) | dict.fromkeys(("false", "no", "n", "0"), False)


@dataclass(frozen=True)
class Case:
    """A request that differs in one field from one that succeeds."""

    name: str
    value: Any
    is_right: bool
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    csv: str | None = None  # instead of a body in JSON

    def __str__(self) -> str:
        return f"{self.name}={str(self.value)[:60]!r}"


class Good:
    """The request of a route that its owner gets 2xx for."""

    def __init__(self, route: Route, church: Church, estate: dict[str, str]) -> None:
        self.route = route
        asks = [ask for ask in REQUESTS.get(str(route), [Ask()]) if ask.csv is None]
        self._ask = next((ask for ask in asks if ask.owner < 300), asks[0])
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
            "POST /api/admin/mfa/verify": {**MFA_BODY, "mfaToken": "x"},
            "POST /api/admin/mfa/enable": {"password": NOT_IT},
            "POST /api/admin/mfa/confirm": {**MFA_BODY},
            "POST /api/admin/mfa/recovery-codes": {**MFA_BODY},
            "POST /api/admin/mfa/disable": {**MFA_BODY, "password": PASSWORD},
            "POST /api/auth/phone": {"phone": people(1)[0].phone},
            "POST /api/auth/phone/confirm": {**MFA_BODY},
            "POST /api/auth/password/forgot": {"email": self._church.email},
            "POST /api/auth/password/change": {"currentPassword": NOT_IT, "newPassword": NOT_IT},
            "POST /api/auth/password/reset": {"token": NOT_IT, "password": NOT_IT},
            "DELETE /api/auth/sessions": {"password": NOT_IT},
            "POST /api/auth/invitations/accept": {
                "token": "not it",
                "firstName": "Boaz",
                "lastName": "Miller",
                "password": PASSWORD,
            },
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
        if str(self.route) == IMPORTS:
            yield from self._of_table()

    def _of_query(self, parameter: dict[str, Any]) -> Iterator[Case]:
        name, form = parameter["name"], parameter["schema"]
        schema = Schema(form, self.route.schemas)
        texts = [
            str(value) for value in (*schema.right(RIGHT), *schema.wrong(WRONG)) if not isinstance(value, list | dict)
        ]
        for text in dict.fromkeys(texts):
            is_right = schema.is_right(in_query(form, text)) and name != "cursor"
            # Of a route with a body, a right one goes with it.
            yield Case(name, text, is_right, query={name: text}, body=self.body() if self.route.fields else None)

    def _of_header(self, name: str) -> Iterator[Case]:
        right = {KEY: [secrets.token_hex(8)], POSITION: ["0"]}[name]
        wrong = {KEY: ["", "a b", "k" * 256, "é"], POSITION: ["x", "-1", "1.5"]}[name]
        for value in (*right, *wrong):
            yield Case(name, value, value in right, headers={name: value}, body=self.body())

    def _of_body(self) -> Iterator[Case]:
        shape = shape_of(self.route)
        for name, form in shape["properties"].items():
            schema = Schema(form, self.route.schemas)
            right = 1 if str(self.route) == MAKES_CHURCHES else RIGHT
            for value in schema.right(right):
                yield Case(name, value, is_right=True, body={**self.body(), name: value})
            for value in schema.wrong(WRONG):
                yield Case(name, value, is_right=False, body={**self.body(), name: value})
            yield from self._within(name, schema, self.body().get(name), partial(self._with, name))
        for name in shape.get("required", []):
            body = self.body()
            del body[name]
            yield Case(name, "left out", is_right=False, body=body)
        yield Case(UNKNOWN, 1, is_right=False, body={**self.body(), UNKNOWN: 1})

    def _with(self, name: str, value: Any) -> Any:
        return {**self.body(), name: value}

    def _within(self, place: str, schema: Schema, good: Any, put: Callable[[Any], Any]) -> Iterator[Case]:
        """Each item of a list and each field of an object at this place, and what lies in them, made wrong.

        ``good`` is what is right there, if that is known; ``put`` gives the body that has a value there.
        """
        if (items := schema.items()) is not None:
            first = good[0] if good else items.right(1)[0]
            yield from self._wrong(f"{place}[1]", items, first, lambda value: put([first, value]))
        fields = schema.fields()
        whole = dict(good or {}) if fields else {}
        for name, each in fields.items():
            yield from self._wrong(f"{place}.{name}", each, whole.get(name), partial(put_field, put, whole, name))
        for name in schema.required if fields else ():
            body = put({other: value for other, value in whole.items() if other != name})
            yield Case(f"{place}.{name}", "left out", is_right=False, body=body)
        if fields and schema.is_closed:
            yield Case(f"{place}.{UNKNOWN}", 1, is_right=False, body=put({**whole, UNKNOWN: 1}))

    def _wrong(self, place: str, schema: Schema, good: Any, put: Callable[[Any], Any]) -> Iterator[Case]:
        for value in schema.wrong(WRONG_WITHIN):
            yield Case(place, value, is_right=False, body=put(value))
        yield from self._within(place, schema, good, put)

    def _of_table(self) -> Iterator[Case]:
        """Each cell of a table's second row, and each column, made wrong."""
        row, fields = self._row(), columns(self.route)
        assert row.keys() == fields.keys(), "a column of the page is not in the table"
        required = Schema(self.route.schemas[ROW], self.route.schemas).required
        for name, schema in fields.items():
            for text in [each for each in ODD if isinstance(each, str)]:
                is_right = schema.is_right(of_cell(name, text)) if text.strip() else name not in required
                if not is_right:
                    yield table_case(f"row 2 {name}", text, [self._row(), {**self._row(), name: text}])
        yield table_case("row 2 row", "a cell too many", [row, {**row, "firstName": 'Anna","more'}])
        yield table_case(UNKNOWN, "a column", [{**row, UNKNOWN: "x"}])
        for name in required:
            yield table_case(name, "no column", [{other: cell for other, cell in row.items() if other != name}])
        for name in row:
            yield table_case(name, "twice", [{**row, f" {name}": "x"}])
        yield replace(table_case("mapping", "{", [row]), query={"mapping": "{"})

    def _row(self) -> dict[str, str]:
        """A good row with each column; a new person each time."""
        (person,) = people(1)
        return {
            "firstName": person.first_name,
            "lastName": person.last_name,
            "phone": person.phone,
            "email": person.email,
            "branchId": self._estate["home"],
            "groupIds": self._estate["group"],
            "optInSms": "yes",
            "externalId": secrets.token_hex(6),
            "consentSource": "paper card",
            f"customFields.{ANY_NAME}": "M",
        }

    async def send(self, caller: Caller, case: Case | None = None) -> Answer:
        """Send it, changed by the case."""
        case = case or Case("", "", is_right=True, body=self.body())
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in case.query.items())
        path = self.path + (f"?{query}" if query else "")
        body = json.dumps(case.body).encode() if self.route.content_types and case.body is not None else None
        content = body if case.csv is None else case.csv.encode()
        return await caller.send(self.route.method, path, content, case.headers)


def put_field(put: Callable[[Any], Any], whole: dict[str, Any], name: str, value: Any) -> Any:
    """The body that has an object with this field."""
    return put({**whole, name: value})


def of_cell(name: str, text: str) -> Any:
    """What a cell's text stands for."""
    if name == "groupIds":
        return [part.strip() for part in text.split(";")]
    return TRUTHS.get(text.strip().casefold(), text) if name == "optInSms" else text.strip()


def table_case(name: str, value: str, rows: list[Mapping[str, str]]) -> Case:
    """A wrong table; its columns are those of the first row."""
    lines = [",".join(rows[0]), *(",".join(f'"{cell}"' for cell in row.values()) for row in rows)]
    return Case(name, value, is_right=False, headers={"Content-Type": "text/csv"}, csv="\n".join(lines) + "\n")


def shape_of(route: Route) -> dict[str, Any]:
    """The schema of a route's JSON body."""
    content = route.operation["requestBody"]["content"]["application/json"]
    shape: dict[str, Any] = route.schemas[content["schema"]["$ref"].rpartition("/")[2]]
    return shape


def columns(route: Route) -> dict[str, Schema]:
    """Those of an import's table: the fields of a row, each custom one by itself."""
    fields = Schema(route.schemas[ROW], route.schemas).fields()
    custom = fields.pop("customFields").fields()
    return fields | {f"customFields.{name}": each for name, each in custom.items()}


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
    places = set(wrong_places(route, case, answer))
    if answer.status < 300 and not places:
        return None if case.is_right else f"taken: {answer.body[:150]!r}"
    if answer.status >= 300 and answer.code not in CODES.get(answer.status, set()):
        return f"{answer.status} {answer.body[:200]!r}"
    if case.is_right:
        known = {*route.fields, *route.query, case.name}
        names = {name_of(place) for place in places}
        return None if answer.status != 400 or (names and names <= known) else f"refused for {names}"
    # Nothing else is named; where an object or a list is wrong, it may be what lies in it.
    others = [each for each in places if each != case.name and not each.startswith((f"{case.name}.", f"{case.name}["))]
    is_named = answer.status in {200, 400} and places and not others
    return None if is_named else f"{answer.status}, naming {places}"


def wrong_places(route: Route, case: Case, answer: Answer) -> Iterator[str]:
    """What an answer names as wrong. An import takes what is good and names the rest by row and field."""
    if answer.status < 300 and str(route) == IMPORTS:
        for error in answer.json()["errors"]:
            before = f"row {error['row']} " if case.csv is not None else f"members[{error['row'] - 1}]."
            yield before + error["field"]
    elif answer.status >= 300:
        yield from (detail["field"] for detail in answer.json()["error"]["details"])


def places_within(route: Route) -> Iterator[str]:
    """Where in the fields of a route's body a value stands, and in the cells of its table."""
    if route.fields:
        yield from Schema(shape_of(route), route.schemas).places()
    if str(route) == IMPORTS:
        yield from (f"row 2 {name}" for name in columns(route))


def name_of(path: str) -> str:
    """The field of the body that a path begins with."""
    return path.partition(".")[0].partition("[")[0]


@pytest.fixture
async def owner(church: Church) -> AsyncIterator[Caller]:
    async with Caller(church) as caller:
        yield caller


@pytest.mark.timeout(600)
@pytest.mark.asvs("v5.0.0-2.2.1", "v5.0.0-2.2.2")
async def test_every_route_is_reached_with_success_and_with_the_name_of_each_wrong_field(
    church: Church, owner: Caller
) -> None:
    routes = await all_routes(church.platform.url)
    estate, _ = await make_estates(church, owner, 2)
    order = list(REQUESTS)
    resumed = order.index("POST /api/churches/{id}/sending/resume")
    order[resumed:resumed] = NAMELESS  # what stops everything, before it is resumed
    routes.sort(key=lambda route: order.index(str(route)) if str(route) in order else -1)
    faults: list[str] = []
    reached: dict[str, Counter[str]] = defaultdict(Counter)  # by route: each place, and whether it was made wrong
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
                    reached[str(good.route)][case.name if case.is_right else f"wrong {case.name}"] += 1

            is_in_turn = any(each in str(route) for each in IN_TURN)
            await asyncio.gather(*(go_on() for _ in range(1 if is_in_turn else AT_ONCE)))
            if route.method == "DELETE" or not route.path.endswith("logout"):
                await owner.log_in()
            # Where nothing that was sent so far was whole and right.
            if not good.succeeded and str(route) not in NEVER_DONE:
                answer = await good.send(caller if "auth" in route.path else owner)
                fault = unlike_the_page(route, answer)
                if answer.status >= 300 or fault:
                    faults.append(f"{route}, as it should be: {answer.status} {fault} {answer.body[:200]!r}")
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:60])
    for route in routes:
        if str(route) in HEEDLESS:
            continue
        places = {*route.fields, *route.query, *places_within(route), UNKNOWN}
        assert {f"wrong {place}" for place in places} <= reached[str(route)].keys(), route
    assert sum(counts.total() for counts in reached.values()) > 3000
    assert failed_requests(church.platform) == []
    await send_at_once(church, owner)
    await still_works(church)
