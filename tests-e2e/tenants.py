"""What every route is asked as another church: requests that its owner gets 2xx for, and where identifiers stand.

`REQUESTS` has each route of the API page. `untried` names those that it lacks, and each place of an identifier on the
page at which no request of the route has one.
"""

import base64
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from koinonia import clock

from .church import PASSWORD
from .page import Route

KEY, POSITION = "Idempotency-Key", "Last-Event-ID"
UUIDS = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Things = Mapping[str, str]
"""A church's things by kind; see ``estates.Estates``."""


@dataclass(frozen=True)
class Of:
    """The place of an identifier: that of a thing of this kind."""

    kind: str


@dataclass(frozen=True)
class New:
    """A value that nobody has used: ``{}`` is filled with figures."""

    form: str


NAME, PHONE = New("New {}"), New("+1312{}")


@dataclass(frozen=True)
class Ask:
    """One request to a route. Path, query, headers and body may hold `Of` and `New` anywhere; ``csv`` is a table's row.

    ``owner`` is the status that the owner gets; each place of an identifier has a request with less than 300. Where
    others confirm, an answer that came ``sooner`` is a 202.
    """

    path: Mapping[str, Of] = field(default_factory=dict)
    query: Mapping[str, Of] = field(default_factory=dict)
    headers: Mapping[str, Of] = field(default_factory=dict)
    body: Any = None
    csv: Mapping[str, Any] | None = None
    owner: int = 200
    sooner: bool = False

    def is_answered(self, status: int) -> bool:
        """Whether its owner may get this status."""
        return status == self.owner or (self.sooner and status == 202)

    def places(self) -> dict[str, str]:
        """Where identifiers stand, and of which kind."""
        found = {f"path {name}": of.kind for name, of in self.path.items()}
        found |= {f"query {name}": of.kind for name, of in self.query.items()}
        found |= {f"header {name}": of.kind for name, of in self.headers.items()}
        found |= {f"csv {name}": of.kind for name, of in (self.csv or {}).items() if isinstance(of, Of)}
        return found | dict(_in_body("body ", self.body))

    def filled(self, route: Route, things: Callable[[str], Things], new: Callable[[New], str]) -> "Filled":
        """The request; ``things`` says whose thing stands at a place, ``new`` makes or repeats what is new."""

        def value(place: str, given: Any) -> Any:
            if isinstance(given, Of):
                return things(place)[given.kind]
            if isinstance(given, New):
                return new(given)
            if isinstance(given, dict):
                return {name: value(_under(place, name), each) for name, each in given.items()}
            return [value(f"{place}[]", each) for each in given] if isinstance(given, list) else given

        ids = {name: value(f"path {name}", of) for name, of in self.path.items()}
        query = "&".join(f"{name}={value(f'query {name}', of)}" for name, of in self.query.items())
        headers = {name: value(f"header {name}", of) for name, of in self.headers.items()}
        body = None if self.body is None else json.dumps(value("body ", self.body)).encode()
        if self.csv is not None:
            cells = [value(f"csv {name}", cell) for name, cell in self.csv.items()]
            body = f"{','.join(self.csv)}\n{','.join(cells)}\n".encode()
            headers["Content-Type"] = "text/csv"
        return Filled(
            route.method, route.url(**ids) + (f"?{query}" if query else "").replace("+", "%2B"), body, headers
        )


@dataclass(frozen=True)
class Filled:
    """A request as it is sent."""

    method: str
    path: str
    body: bytes | None
    headers: dict[str, str]


def _under(place: str, name: str) -> str:
    return place + name if place.endswith(" ") else f"{place}.{name}"


def _in_body(place: str, given: Any) -> Iterator[tuple[str, str]]:
    if isinstance(given, Of):
        yield place, given.kind
    elif isinstance(given, dict):
        for name, each in given.items():
            yield from _in_body(_under(place, name), each)
    elif isinstance(given, list):
        for each in given:
            yield from _in_body(f"{place}[]", each)


def figures() -> str:
    """Seven figures, of a telephone number that no person of the tests has."""
    return f"29{secrets.randbelow(100_000):05}"


def _by(kind: str) -> dict[str, Of]:
    return {"id": Of(kind)}


def _list(route: str, *more: Ask) -> list[Ask]:
    """A list as it is, from another's cursor on, and filtered."""
    return [Ask(), Ask(query={"cursor": Of(f"cursor of {route}")}), *more]


PERSON = {"firstName": "Anna", "lastName": NAME, "phone": PHONE}
INVITED = {"email": New("invited{}@church.example"), "firstName": "Boaz", "lastName": "Miller", "role": "viewer"}
# Far from now in the church's zone, which is New York's: what the tests send shall go.
QUIET = {"start": f"{clock.now() + timedelta(hours=5):%H:%M}", "until": f"{clock.now() + timedelta(hours=6):%H:%M}"}
EXCLUDE = {"memberIds": [Of("member")], "groupIds": [Of("other group")], "branchIds": [Of("other branch")]}
RECUR = {
    "content": NAME,
    "schedule": {"rrule": "FREQ=YEARLY", "timezone": "UTC", "startAt": "2050-01-01T00:00:00Z"},
}
SEND = {"content": NAME, "scheduledAt": (clock.now() + timedelta(days=700)).isoformat(), "allowDuplicate": True}
BOTH = {"id": Of("message"), "recipientId": Of("recipient")}

OPEN: dict[str, str] = {
    "GET /alive": "nobody is asked who they are",
    "GET /health": "nobody is asked who they are",
    "GET /ready": "nobody is asked who they are",
    "GET /api/docs": "the same for all",
    "GET /api/openapi.json": "the same for all",
    "GET /api/csrf-token": "a session's own; mixed in a test of its own",
    "POST /api/admin/mfa/verify": "its token is a login's own; tried in the gateway's test_mfa.py",
    "POST /api/auth/invitations/accept": "names a token of 256 random bits alone",
    "POST /api/auth/login": "tried in a test of its own",
    "POST /api/auth/logout": "tried in a test of its own",
    "POST /api/auth/password/forgot": "names an e-mail, and answers the same to all",
    "POST /api/auth/password/reset": "names a token of 256 random bits alone",
    "POST /api/auth/refresh": "tried in a test of its own",
    "POST /api/auth/register": "makes a church, names none",
    "POST /api/webhooks/stripe": "names Stripe's customer, no church; tried in the gateway's test_stripe.py",
    "POST /api/webhooks/telnyx/mms": "tried in a test of its own",
    "POST /api/webhooks/telnyx/status": "tried in a test of its own",
}
"""Routes without a church of their own, and why the matrix leaves them out."""

NAMELESS: dict[str, str] = {
    "POST /api/admin/mfa/disable": "its caller's own second factor; tried in the gateway's test_mfa.py",
    "POST /api/admin/mfa/recovery-codes": "its caller's own; tried there",
    "POST /api/admin/mfa/confirm": "its caller's own, and ends all sessions; tried there",
    "POST /api/admin/mfa/enable": "its caller's own; tried there",
    "POST /api/auth/phone": "its caller's own, five times an hour; tried in the gateway's test_own_phones.py",
    "POST /api/auth/phone/confirm": "its caller's own; tried there",
    "DELETE /api/auth/phone": "its caller's own; tried there",
    "POST /api/messages/stop": "ends all that its caller has on the way; its key is tried in the end",
    "POST /api/auth/password/change": "ends its caller's other sessions; tried in the gateway's test_passwords.py",
    "DELETE /api/auth/sessions": "ends its caller's other sessions; tried in the gateway's test_sessions.py",
}
"""Routes that name nothing, and would spoil the things that the matrix asks for."""

IN_THE_END: dict[str, Ask] = {"POST /api/messages/stop": Ask(sooner=True)}
"""Those of them that take an idempotency key, which is tried when all else has been."""

REFUSED: dict[tuple[str, str], str] = {
    ("POST /api/members", "body externalId"): "a church's own person is there already",
}
"""Places of an identifier at which the owner's own one gets no 2xx, and why."""

# In the order in which the owner asks them: what ends a thing comes last.
REQUESTS: dict[str, list[Ask]] = {
    "GET /api/auth/me": [Ask()],
    "GET /api/auth/phone": [Ask()],
    "GET /api/auth/sessions": _list("GET /api/auth/sessions"),
    "GET /api/churches/{id}/settings": [Ask(_by("church"))],
    "PATCH /api/churches/{id}/settings": [
        Ask(_by("church"), body={"name": NAME, "quietHours": QUIET, "senderDefaults": {"numberId": Of("number")}})
    ],
    "GET /api/admin/api-keys": _list("GET /api/admin/api-keys"),
    "POST /api/admin/api-keys": [Ask(body={"name": NAME, "role": "viewer"}, owner=201)],
    "POST /api/admin/api-keys/{id}/rotate": [Ask(_by("api_key"))],
    "GET /api/admin/users": _list("GET /api/admin/users"),
    "POST /api/admin/users": [Ask(body=INVITED, owner=201)],
    "PATCH /api/admin/users/{id}": [Ask(_by("invited"), body={"role": "sender"})],
    "GET /api/admin/audit-log": _list("GET /api/admin/audit-log", Ask(query={"actorId": Of("admin")})),
    "GET /api/analytics/stats": [Ask()],
    "GET /api/analytics/delivery": [Ask()],
    "GET /api/billing/plans": [Ask()],
    "GET /api/billing/subscription": [Ask()],
    "GET /api/billing/usage": [Ask()],
    "GET /api/branches": _list("GET /api/branches"),
    "GET /api/branches/stats": _list("GET /api/branches/stats"),
    "POST /api/branches": [Ask(body={"name": NAME}, owner=201)],
    "GET /api/branches/{id}": [Ask(_by("branch"))],
    "PATCH /api/branches/{id}": [Ask(_by("branch"), body={"name": NAME})],
    "GET /api/groups": _list("GET /api/groups"),
    "POST /api/groups": [Ask(body={"name": NAME, "branchId": Of("home")}, owner=201)],
    "GET /api/groups/{id}": [Ask(_by("group"))],
    "PATCH /api/groups/{id}": [Ask(_by("group"), body={"name": NAME, "branchId": Of("home")})],
    "POST /api/groups/{id}/restore": [Ask(_by("group"))],
    "GET /api/groups/{id}/members": [
        Ask(_by("group")),
        Ask(_by("group"), query={"cursor": Of("cursor of GET /api/groups/{id}/members")}),
    ],
    "POST /api/groups/{id}/members": [Ask(_by("group"), body={"memberIds": [Of("member")]})],
    "GET /api/members": _list(
        "GET /api/members",
        Ask(query={"branchId": Of("home")}),
        Ask(query={"groupId": Of("group")}),
        Ask(query={"search": Of("word")}),
        Ask(query={"search": Of("phone")}),
    ),
    "POST /api/members": [
        Ask(body={**PERSON, "branchId": Of("home"), "groupIds": [Of("group")]}, owner=201),
        Ask(body={**PERSON, "externalId": Of("external id 1")}, owner=409),  # they have this person
    ],
    "POST /api/members/import": [
        Ask(body={"members": [{**PERSON, "branchId": Of("home"), "groupIds": [Of("group")]}]}),
        Ask(body={"members": [{**PERSON, "externalId": Of("external id 2")}]}),
        Ask(body={"members": [PERSON], "groupIds": [Of("group")]}),
        Ask(csv={**PERSON, "branchId": Of("home"), "externalId": Of("external id 3")}),
    ],
    "GET /api/members/export": [Ask(query={"branchId": Of("home")}), Ask(query={"groupId": Of("group")})],
    "GET /api/members/imports/{id}": [Ask(_by("import"))],
    "GET /api/members/imports/{id}/report": [Ask(_by("import"))],
    "GET /api/members/{id}": [Ask(_by("member"))],
    "GET /api/members/{id}/messages": [
        Ask(_by("member")),
        Ask(_by("member"), query={"cursor": Of("cursor of GET /api/members/{id}/messages")}),
    ],
    "PATCH /api/members/{id}": [
        Ask(_by("member"), body={"branchId": Of("home"), "groupIds": [Of("group")]}),
        Ask(_by("member"), body={"externalId": Of("external id 0")}),
    ],
    "GET /api/templates": _list("GET /api/templates"),
    "POST /api/templates": [Ask(body={"name": NAME, "content": "Hi"}, owner=201)],
    "PATCH /api/templates/{id}": [Ask(_by("template"), body={"content": "Hello"})],
    "GET /api/members/duplicates": _list("GET /api/members/duplicates"),
    "POST /api/members/{id}/merge": [Ask(_by("double"), body={"memberId": Of("other double")})],
    "POST /api/members/{id}/restore": [Ask(_by("member"))],
    "GET /api/messages": _list("GET /api/messages", Ask(query={"search": Of("word")}), Ask(query={"tag": Of("word")})),
    "POST /api/messages/preview": [
        Ask(body={"content": "Hi", "targetType": "individual", "targetIds": [Of("member")], "numberId": Of("number")}),
        Ask(body={"templateId": Of("template"), "targetType": "groups", "targetIds": [Of("group")]}),
        Ask(body={"content": "Hi", "targetType": "branches", "targetIds": [Of("home")]}),
        Ask(body={"content": "Hi", "targetType": "all", "exclude": EXCLUDE}),
    ],
    "POST /api/messages/send-to-me": [
        Ask(body={"content": "Hi", "numberId": Of("number")}, owner=202),
        Ask(body={"templateId": Of("template")}, owner=202),
    ],
    "POST /api/messages/send": [
        Ask(
            body={**SEND, "targetType": "individual", "targetIds": [Of("member")], "numberId": Of("number")}, owner=202
        ),
        Ask(body={**SEND, "targetType": "groups", "targetIds": [Of("group")]}, owner=202),
        Ask(body={**SEND, "content": None, "templateId": Of("template"), "targetType": "all"}, owner=202),
        Ask(body={**SEND, "targetType": "branches", "targetIds": [Of("home")]}, owner=202),
        Ask(body={**SEND, "targetType": "all", "exclude": EXCLUDE}, owner=202),
    ],
    "GET /api/messages/tags": [Ask()],
    "GET /api/messages/{id}": [Ask(_by("message"))],
    "PATCH /api/messages/{id}": [
        Ask(_by("planned"), body={"targetType": "individual", "targetIds": [Of("member")], "numberId": Of("number")}),
        Ask(_by("planned"), body={"targetType": "groups", "targetIds": [Of("group")]}),
        Ask(_by("planned"), body={"targetType": "branches", "targetIds": [Of("home")]}),
        Ask(_by("planned"), body={"exclude": EXCLUDE, "allowDuplicate": True}),
        Ask(_by("planned"), body={"templateId": Of("template"), "allowDuplicate": True}),
    ],
    "GET /api/messages/{id}/events": [Ask(_by("message"), headers={POSITION: Of("position")})],
    "GET /api/messages/{id}/recipients": [
        Ask(_by("message")),
        Ask(_by("message"), query={"cursor": Of("cursor of GET /api/messages/{id}/recipients")}),
    ],
    "GET /api/messages/{id}/recipients/export": [Ask(_by("message"))],
    "GET /api/messages/{id}/recipients/{recipientId}/trail": [Ask(BOTH)],
    # Before a copy of it may be under way again.
    "POST /api/messages/{id}/resend-failed": [Ask(_by("message"), owner=202)],
    "POST /api/messages/{id}/recipients/{recipientId}/resolve": [Ask(BOTH, body={"action": "close"})],
    "GET /api/recurring-messages": _list("GET /api/recurring-messages"),
    "POST /api/recurring-messages": [
        Ask(
            body={**RECUR, "targetType": "individual", "targetIds": [Of("member")], "numberId": Of("number")}, owner=201
        ),
        Ask(body={**RECUR, "targetType": "groups", "targetIds": [Of("group")]}, owner=201),
        Ask(body={**RECUR, "targetType": "branches", "targetIds": [Of("home")]}, owner=201),
        Ask(body={**RECUR, "targetType": "all", "exclude": EXCLUDE}, owner=201),
        Ask(body={**RECUR, "content": None, "templateId": Of("template"), "targetType": "all"}, owner=201),
    ],
    "GET /api/recurring-messages/{id}": [Ask(_by("recurring"))],
    "PATCH /api/recurring-messages/{id}": [
        Ask(
            _by("recurring"),
            body={
                "targetType": "individual",
                "targetIds": [Of("member")],
                "numberId": Of("number"),
                "schedule": RECUR["schedule"],
            },
        ),
        Ask(_by("recurring"), body={"targetType": "groups", "targetIds": [Of("group")]}),
        Ask(_by("recurring"), body={"targetType": "branches", "targetIds": [Of("home")]}),
        Ask(_by("recurring"), body={"exclude": EXCLUDE}),
        Ask(_by("recurring"), body={"templateId": Of("template")}),
    ],
    "DELETE /api/recurring-messages/{id}": [Ask(_by("recurring"), owner=204)],
    "GET /api/conversations": _list("GET /api/conversations"),
    "GET /api/conversations/{id}": [
        Ask(_by("conversation")),
        Ask(_by("conversation"), query={"cursor": Of("cursor of GET /api/conversations/{id}")}),
    ],
    "PATCH /api/conversations/{id}/read": [Ask(_by("conversation"))],
    "PATCH /api/conversations/{id}/status": [Ask(_by("conversation"), body={"status": "closed"})],
    "POST /api/conversations/{id}/reply": [Ask(_by("conversation"), body={"content": NAME}, owner=202)],
    "GET /api/numbers": _list("GET /api/numbers"),
    "POST /api/messages/{id}/approve": [Ask(_by("held"), body={})],
    "POST /api/messages/{id}/reject": [Ask(_by("other held"), body={"reason": "No"})],
    "POST /api/messages/{id}/send-again": [Ask(_by("declined"))],
    "POST /api/messages/{id}/pause": [Ask(_by("scheduled"))],
    "POST /api/messages/{id}/resume": [Ask(_by("scheduled"))],
    "POST /api/messages/{id}/cancel": [Ask(_by("scheduled"))],
    "POST /api/numbers/{id}/pause": [Ask(_by("number"))],
    "POST /api/numbers/{id}/resume": [Ask(_by("number"))],
    "GET /api/churches/{id}/sending": [Ask(_by("church"))],
    "POST /api/churches/{id}/sending/pause": [Ask(_by("church"))],
    "POST /api/churches/{id}/sending/resume": [Ask(_by("church"))],
    "DELETE /api/groups/{id}/members": [Ask(_by("group"), body={"memberIds": [Of("member")]})],
    "DELETE /api/members/{id}": [Ask(_by("member"), owner=204)],
    "DELETE /api/templates/{id}": [Ask(_by("template"), owner=204)],
    "DELETE /api/groups/{id}": [Ask(_by("group"), owner=204)],
    "DELETE /api/branches/{id}": [Ask(_by("branch"), owner=204)],
    "DELETE /api/admin/users/{id}": [Ask(_by("invited"), owner=204)],
    "DELETE /api/admin/api-keys/{id}": [Ask(_by("api_key"), owner=204)],
    "DELETE /api/auth/sessions/{id}": [Ask(_by("session"), body={"password": PASSWORD}, owner=204)],
}


def untried(routes: list[Route]) -> list[str]:
    """What the page has and no request tries, or the other way round: a sentence each, that says what to add."""
    said = []
    for route in routes:
        if route.is_idempotent and str(route) not in REQUESTS and str(route) not in IN_THE_END:
            said.append(
                f"{route} takes an idempotency key, and another church's is not tried: add it to `IN_THE_END` in "
                "tests-e2e/tenants.py, where `REQUESTS` cannot have it."
            )
        if str(route) in OPEN:
            said += [f"{route} is for principals, and `OPEN` leaves it out"] if not route.is_public else []
            continue
        if str(route) in NAMELESS:
            said += [f"{route} takes {place!r}, and `NAMELESS` leaves it out" for place in identifiers(route)]
            continue
        if str(route) not in REQUESTS:
            said.append(
                f"{route} is not tried as another church: add it to `REQUESTS` in tests-e2e/tenants.py, with a request "
                "that its owner gets 2xx for; or, where it has no church, to `OPEN`, with the reason."
            )
            continue
        tried = {place for ask in REQUESTS[str(route)] for place in ask.places()}
        taken = [ask for ask in REQUESTS[str(route)] if ask.owner < 300]
        said += [] if taken else [f"{route} is not tried with a request that its owner gets 2xx for"]
        said += [
            f"{route} with an identifier at {place!r} is not tried with a request that its owner gets 2xx for; where "
            "there can be none, add the reason to `REFUSED` in tests-e2e/tenants.py."
            for place in identifiers(route)
            if place in tried and (str(route), place) not in REFUSED
            if not any(place in ask.places() for ask in taken)
        ]
        said += [
            f"{route} takes an identifier at {place!r} that is not tried as another church: in tests-e2e/tenants.py, "
            f"let a request of `REQUESTS[{str(route)!r}]` have `Of(<kind>)` there, a kind that `make_estates` makes."
            for place in identifiers(route)
            if place not in tried
        ]
    listed = REQUESTS.keys() | OPEN.keys() | NAMELESS.keys() | IN_THE_END.keys() | {route for route, _ in REFUSED}
    gone = listed - {str(route) for route in routes}
    return said + [f"{route} is no route any more: take it out of tests-e2e/tenants.py." for route in sorted(gone)]


def identifiers(route: Route) -> Iterator[str]:
    """Every place of a route's page at which an identifier can stand; the idempotency key goes by itself."""
    for parameter in route.operation.get("parameters", []):
        name, where = parameter["name"], parameter["in"]
        if where == "path" or name == POSITION or (name != KEY and _is_identifier(name, parameter.get("schema", {}))):
            yield f"{where} {name}"
    content = route.operation.get("requestBody", {}).get("content", {})
    yield from dict.fromkeys(_identifiers_in("body ", "", content.get("application/json", {}).get("schema", {}), route))
    if "text/csv" in content:  # its columns are the fields of a row
        yield from ("csv branchId", "csv externalId")


def _identifiers_in(place: str, name: str, schema: dict[str, Any], route: Route) -> Iterator[str]:
    if "$ref" in schema:
        schema = route.schemas[schema["$ref"].rpartition("/")[2]]
    if _is_identifier(name, schema):
        yield place
    for each in (*schema.get("anyOf", ()), *schema.get("allOf", ()), *schema.get("oneOf", ())):
        yield from _identifiers_in(place, name, each, route)
    for under, each in schema.get("properties", {}).items():
        yield from _identifiers_in(_under(place, under), under, each, route)
    if "items" in schema:
        yield from _identifiers_in(f"{place}[]", "", schema["items"], route)


def _is_identifier(name: str, schema: dict[str, Any]) -> bool:
    """By its format, or, of a text, by its name."""
    if schema.get("format") == "uuid":
        return True
    is_text = "string" in (schema.get("type"), *(each.get("type") for each in schema.get("anyOf", ())))
    return is_text and (name in {"cursor", "search", "tag"} or name.endswith(("Id", "Key", "Token", "Cursor")))


def nobodys(things: Things) -> dict[str, str]:
    """For each thing one of the same kind that is nobody's: ids of the same time, words of the same length."""
    words: dict[str, str] = {}

    def another(found: "re.Match[str]") -> str:
        """One id is replaced alike everywhere: a cursor may name what its list belongs to."""
        known = found[0]
        if known not in words:
            uuid = UUID(known)
            words[known] = str(UUID(int=uuid.int & ~((1 << 62) - 1) | secrets.randbits(62)))
        return words[known]

    return {kind: _another(kind, value, another) for kind, value in things.items()}


def _another(kind: str, value: str, another: Callable[["re.Match[str]"], str]) -> str:
    if kind.startswith("cursor"):
        text = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode()
        return base64.urlsafe_b64encode(UUIDS.sub(another, text).encode()).rstrip(b"=").decode()
    if kind == "phone":
        return f"+1312{figures()}"
    if kind == "position":
        return str(int(value) + 1)
    return (
        UUIDS.sub(another, value)
        if UUIDS.fullmatch(value)
        else value[:4] + secrets.token_hex(len(value))[4 : len(value)]
    )
