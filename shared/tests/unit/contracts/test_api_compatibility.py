"""What breaks clients of the last API page, and what does not."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from koinonia import contracts
from koinonia.contracts.api_compatibility import breaking_changes
from koinonia.contracts.openapi import document

Json = dict[str, Any]
Change = Callable[[Json], object]

ROUTE = "POST /notes/{id}"


def page() -> Json:
    """A page with one route that has a bit of everything."""
    note = {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "status": {"enum": ["open", "done"]},
            "kind": {"type": "string", "x-extensible-enum": ["plain"]},
            "count": {"type": "integer"},
            "pages": {"type": "array", "items": {"$ref": "#/components/schemas/Page"}},
            "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
            "doneAt": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
            "parent": {"anyOf": [{"$ref": "#/components/schemas/Note"}, {"type": "null"}]},
        },
        "required": ["text", "status", "count"],
    }
    request = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "text": {"type": "string", "minLength": 1, "maxLength": 100},
            "colour": {"enum": ["red", "blue"], "default": "red"},
            "size": {"anyOf": [{"type": "integer", "maximum": 9}, {"type": "null"}], "default": None},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3, "default": []},
            "fields": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 9}, "default": {}},
        },
        "required": ["text"],
    }
    operation = {
        "operationId": "notes.change",
        "x-roles": ["owner", "viewer"],
        "x-test-keys": True,
        "security": [{"session": [], "csrf": []}, {"apiKey": []}],
        "parameters": [
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}},
            {"name": "limit", "in": "query", "required": False, "schema": {"type": "integer", "default": 50}},
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/NoteRequest"}},
                "text/csv": {"schema": {"type": "string"}},
            },
        },
        "responses": {
            "200": {
                "headers": {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}},
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Note"}}},
            },
            "404": {"$ref": "#/components/responses/NOT_FOUND"},
        },
    }
    events = {"schema": {"type": "string"}, "x-event-data": {"$ref": "#/components/schemas/Page"}}
    return {
        "paths": {
            "/notes/{id}": {"post": operation},
            "/notes/events": {"get": {"responses": {"200": {"content": {"text/event-stream": events}}}}},
        },
        "components": {
            "schemas": {
                "Note": note,
                "NoteRequest": request,
                "Page": {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
            },
            "headers": {"X-Request-Id": {"schema": {"type": "string"}}},
            "responses": {"NOT_FOUND": {"description": "There is none"}},
            "securitySchemes": {"csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"}},
        },
    }


def operation(page: Json) -> Json:
    found: Json = page["paths"]["/notes/{id}"]["post"]
    return found


def asked(page: Json, name: str = "") -> Json:
    """The schema of the body, or of one of its fields."""
    schema: Json = page["components"]["schemas"]["NoteRequest"]
    return schema["properties"][name] if name else schema


def answered(page: Json, name: str = "") -> Json:
    """The schema of the answer, or of one of its fields."""
    schema: Json = page["components"]["schemas"]["Note"]
    return schema["properties"][name] if name else schema


BREAKING: dict[str, Change] = {
    f"{ROUTE}: the route is gone": lambda page: page["paths"]["/notes/{id}"].pop("post"),
    f"{ROUTE}: operationId: was 'notes.change', is 'notes.edit'": lambda page: operation(page).update(
        operationId="notes.edit"
    ),
    f"{ROUTE}: the role viewer may call it no more": lambda page: operation(page)["x-roles"].remove("viewer"),
    f"{ROUTE}: test keys may call it no more": lambda page: operation(page).update({"x-test-keys": False}),
    f"{ROUTE}: who shows apiKey is let in no more": lambda page: operation(page)["security"].pop(),
    f"{ROUTE}: who shows session and csrf is let in no more": lambda page: operation(page)["security"][0].update(
        mfa=[]
    ),
    "GET /notes/events: who shows nothing is let in no more": lambda page: page["paths"]["/notes/events"]["get"].update(
        security=[{"session": []}]
    ),
    "security csrf: was {'type': 'apiKey', 'in': 'header', 'name': 'X-CSRF-Token'}, "
    "is {'type': 'apiKey', 'in': 'header', 'name': 'X-Token'}": lambda page: page["components"]["securitySchemes"][
        "csrf"
    ].update(name="X-Token"),
    "security csrf: is gone": lambda page: page["components"]["securitySchemes"].clear(),
    f"{ROUTE}: query limit: is gone": lambda page: operation(page)["parameters"].pop(),
    f"{ROUTE}: query limit: must be given now": lambda page: operation(page)["parameters"][1].update(required=True),
    f"{ROUTE}: query limit: maximum was 'free', is 200": lambda page: operation(page)["parameters"][1]["schema"].update(
        maximum=200
    ),
    f"{ROUTE}: query limit: left out, it meant 50 and means 10": lambda page: operation(page)["parameters"][1][
        "schema"
    ].update(default=10),
    f"{ROUTE}: query kind: must be given now": lambda page: operation(page)["parameters"].append(
        {"name": "kind", "in": "query", "required": True, "schema": {"type": "string"}}
    ),
    f"{ROUTE}: body text/csv: is refused now": lambda page: operation(page)["requestBody"]["content"].pop("text/csv"),
    f"{ROUTE}: body: is refused now": lambda page: operation(page).pop("requestBody"),
    "GET /notes/events: body: must be given now": lambda page: page["paths"]["/notes/events"]["get"].update(
        requestBody={"required": True}
    ),
    f"{ROUTE}: body.colour: is gone": lambda page: asked(page)["properties"].pop("colour"),
    f"{ROUTE}: body.colour: must be given now": lambda page: asked(page)["required"].append("colour"),
    f"{ROUTE}: body.mood: must be given now": lambda page: (
        asked(page)["properties"].update(mood={"type": "string"}),
        asked(page)["required"].append("mood"),
    ),
    f"{ROUTE}: body.text: string was taken, is refused now": lambda page: asked(page, "text").update(type="integer"),
    f"{ROUTE}: body.text: maxLength was 100, is 99": lambda page: asked(page, "text").update(maxLength=99),
    f"{ROUTE}: body.text: minLength was 1, is 2": lambda page: asked(page, "text").update(minLength=2),
    f"{ROUTE}: body.text: pattern was 'free', is '^A'": lambda page: asked(page, "text").update(pattern="^A"),
    f"{ROUTE}: body.text: any value was taken, is refused now": lambda page: asked(page, "text").update(enum=["a"]),
    f"{ROUTE}: body.colour: 'blue' was taken, is refused now": lambda page: asked(page, "colour").update(enum=["red"]),
    f"{ROUTE}: body.colour: left out, it meant 'red' and means 'blue'": lambda page: asked(page, "colour").update(
        default="blue"
    ),
    f"{ROUTE}: body.size: null was taken, is refused now": lambda page: asked(page, "size")["anyOf"].pop(),
    f"{ROUTE}: body.size: maximum was 9, is 8": lambda page: asked(page, "size")["anyOf"][0].update(maximum=8),
    f"{ROUTE}: body.size: exclusiveMinimum was 'free', is 0": lambda page: asked(page, "size")["anyOf"][0].update(
        exclusiveMinimum=0
    ),
    f"{ROUTE}: body.tags: maxItems was 3, is 2": lambda page: asked(page, "tags").update(maxItems=2),
    f"{ROUTE}: body.tags[]: maxLength was 'free', is 9": lambda page: asked(page, "tags")["items"].update(maxLength=9),
    f"{ROUTE}: body.fields.*: maxLength was 9, is 8": lambda page: asked(page, "fields")["additionalProperties"].update(
        maxLength=8
    ),
    f"{ROUTE}: body.fields.* (its name): pattern was 'free', is '^a'": lambda page: asked(page, "fields").update(
        propertyNames={"pattern": "^a"}
    ),
    f"{ROUTE}: body.fields.*: is refused now": lambda page: asked(page, "fields").update(additionalProperties=False),
    f"{ROUTE}: 200: is answered no more": lambda page: operation(page)["responses"].update(
        {"202": operation(page)["responses"].pop("200")}
    ),
    f"{ROUTE}: 404: is answered no more": lambda page: operation(page)["responses"].pop("404"),
    f"{ROUTE}: 200 X-Request-Id: the header is gone": lambda page: operation(page)["responses"]["200"].pop("headers"),
    f"{ROUTE}: 200 application/json: is answered no more": lambda page: operation(page)["responses"]["200"].pop(
        "content"
    ),
    f"{ROUTE}: 200.kind: is gone": lambda page: answered(page)["properties"].pop("kind"),
    f"{ROUTE}: 200.status: was always there, may be missing now": lambda page: answered(page)["required"].remove(
        "status"
    ),
    f"{ROUTE}: 200.count: number was never answered, may be now": lambda page: answered(page, "count").update(
        type="number"
    ),
    f"{ROUTE}: 200.count: null was never answered, may be now": lambda page: answered(page, "count").update(
        type=["integer", "null"]
    ),
    f"{ROUTE}: 200.status: 'late' was never answered, may be now": lambda page: answered(page)["properties"].update(
        status={"enum": ["open", "done", "late"]}
    ),
    f"{ROUTE}: 200.status: null was never answered, may be now": lambda page: answered(page)["properties"].update(
        status={"enum": ["open", "done", None]}
    ),
    f"{ROUTE}: 200.doneAt: format was 'date-time', is 'free'": lambda page: answered(page, "doneAt")["anyOf"][0].pop(
        "format"
    ),
    f"{ROUTE}: 200.counts.*: string was never answered, may be now": lambda page: answered(page, "counts").update(
        additionalProperties={"type": "string"}
    ),
    f"{ROUTE}: 200.pages[].number: is gone": lambda page: page["components"]["schemas"]["Page"].update(
        properties={}, required=[]
    ),
    "GET /notes/events: 200.number: is gone": lambda page: page["components"]["schemas"]["Page"].update(
        properties={}, required=[]
    ),
}

ALLOWED: dict[str, Change] = {
    "nothing": lambda _page: None,
    "a route": lambda page: page["paths"].update({"/members": {"get": {"responses": {}}}}),
    "a role": lambda page: operation(page)["x-roles"].append("sender"),
    "a way to log in": lambda page: operation(page)["security"].append({"token": []}),
    "no login": lambda page: [operation(page).pop(name) for name in ("security", "x-roles", "x-test-keys")],
    "no CSRF token": lambda page: operation(page)["security"][0].pop("csrf"),
    "words of a scheme": lambda page: page["components"]["securitySchemes"]["csrf"].update(description="New"),
    "an optional parameter": lambda page: operation(page)["parameters"].append(
        {"name": "tag", "in": "query", "schema": {"type": "string"}}
    ),
    "an optional field asked": lambda page: asked(page)["properties"].update(mood={"type": "string", "default": ""}),
    "a field that need not be given": lambda page: asked(page)["required"].clear(),
    "looser limits asked": lambda page: asked(page, "text").update(minLength=0, maxLength=200),
    "no limit asked": lambda page: asked(page, "text").pop("maxLength"),
    "a value asked": lambda page: asked(page, "colour")["enum"].append("green"),
    "any value asked": lambda page: asked(page)["properties"].update(colour={"type": "string", "default": "red"}),
    "another kind asked": lambda page: asked(page, "size")["anyOf"].append({"type": "string"}),
    "numbers for integers asked": lambda page: asked(page, "size")["anyOf"][0].update(type="number"),
    "unknown fields asked": lambda page: asked(page).pop("additionalProperties"),
    "a content type asked": lambda page: operation(page)["requestBody"]["content"].update({"text/plain": {}}),
    "a body that need not be given": lambda page: operation(page)["requestBody"].update(required=False),
    "a status": lambda page: operation(page)["responses"].update({"429": {}}),
    "a header": lambda page: operation(page)["responses"]["200"]["headers"].update({"X-New": {}}),
    "a field answered": lambda page: answered(page)["properties"].update(mood={"type": "string"}),
    "a field always answered": lambda page: answered(page)["required"].append("kind"),
    "fewer values answered": lambda page: answered(page, "status").update(enum=["open"]),
    "a limit answered": lambda page: answered(page, "text").update(maxLength=10),
    "never null": lambda page: answered(page, "doneAt")["anyOf"].pop(),
    "another value of a list that grows": lambda page: answered(page, "kind")["x-extensible-enum"].append("loud"),
    "a schema of another name": lambda page: (
        page["components"]["schemas"].update(Sheet=page["components"]["schemas"].pop("Page")),
        answered(page, "pages").update(items={"$ref": "#/components/schemas/Sheet"}),
        page["paths"].update({"/notes/events": page["paths"].pop("/notes/events")}),
        page["paths"]["/notes/events"]["get"]["responses"]["200"]["content"]["text/event-stream"].update(
            {"x-event-data": {"$ref": "#/components/schemas/Sheet"}}
        ),
    ),
    "other words": lambda page: answered(page).update(title="A note", description="New", examples=[{}]),
}


@pytest.mark.parametrize("told", BREAKING)
def test_what_breaks_a_client_is_told_with_its_route_and_place(told: str) -> None:
    present = page()
    BREAKING[told](present)
    assert told in breaking_changes(page(), present)


@pytest.mark.parametrize("name", ALLOWED)
def test_what_breaks_no_client_is_let_through(name: str) -> None:
    present = page()
    ALLOWED[name](present)
    assert breaking_changes(page(), present) == []


def test_the_page_that_is_served_breaks_nobody_who_knows_it() -> None:
    assert breaking_changes(document(), copy.deepcopy(document())) == []


def test_the_check_holds_the_page_against_the_last_one(tmp_path: Path) -> None:
    contracts.generate(tmp_path)
    contracts.release(tmp_path)
    assert contracts.check(tmp_path) == []
    last = tmp_path / "last" / "openapi.json"
    changed = msgspec.json.decode(last.read_bytes())
    changed["components"]["schemas"]["Login"]["properties"]["greeting"] = {"type": "string"}
    last.write_bytes(msgspec.json.encode(changed))
    assert contracts.check(tmp_path) == ["openapi.json: POST /api/auth/login: 200.greeting: is gone"]
