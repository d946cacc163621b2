"""What the lint of the API page tells, each rule broken once on a copy of the page."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from koinonia.contracts.lint import lint
from koinonia.contracts.openapi import document

Json = dict[str, Any]

SEND = "POST /api/messages/send"


def send(page: Json) -> Json:
    operation: Json = page["paths"]["/api/messages/send"]["post"]
    return operation


def asked(page: Json, name: str) -> Json:
    schema: Json = page["components"]["schemas"]["SendRequest"]["properties"][name]
    return schema


RULES: dict[str, Callable[[Json], object]] = {
    "messages.list: 2 operations have this operationId": lambda page: send(page).update(operationId="messages.list"),
    f"{SEND}: the operationId is not noun.verb": lambda page: send(page).update(operationId="send"),
    f"{SEND}: the summary is not a title: up to 60 characters, without a full stop": lambda page: send(page).update(
        summary="Sends."
    ),
    f"{SEND}: there is no description": lambda page: send(page).pop("description"),
    f"{SEND}: there is not one tag, of those that the page has": lambda page: send(page).update(tags=["texts"]),
    f"{SEND}: the parameter dry_run is not in camelCase": lambda page: send(page)["parameters"].append(
        {"name": "dry_run", "in": "query", "schema": {"type": "boolean"}}
    ),
    f"{SEND}: 400, 429, 500 or 503 is missing, which every route can answer": lambda page: send(page)["responses"].pop(
        "500"
    ),
    f"{SEND}: the body application/json has no example": lambda page: send(page)["requestBody"]["content"][
        "application/json"
    ].pop("example"),
    f"{SEND}: 202 application/json has no example": lambda page: send(page)["responses"]["202"]["content"][
        "application/json"
    ].pop("example"),
    f"{SEND}: 402 application/json has no example": lambda page: page["components"]["responses"]["PLAN_LIMIT"][
        "content"
    ]["application/json"].pop("example"),
    "POST /api/webhooks/telnyx/status: the body application/json has no example": lambda page: page["paths"][
        "/api/webhooks/telnyx/status"
    ]["post"]["requestBody"]["content"]["application/json"].update(examples={"usual": {"value": None}}),
    f"{SEND}: body.content has no bound": lambda page: [
        asked(page, "content")["anyOf"][0].pop(name) for name in ("maxLength", "pattern")
    ],
    f"{SEND}: body.tags has no bound": lambda page: asked(page, "tags").pop("maxItems"),
    f"{SEND}: body.numberId has no bound": lambda page: asked(page, "numberId")["anyOf"][0].pop("format"),
    f"{SEND}: body.tags[] has no bound": lambda page: asked(page, "tags").update(items={"type": "string"}),
    f"{SEND}: body.* has no bound": lambda page: page["components"]["schemas"]["SendRequest"].pop(
        "additionalProperties"
    ),
    "schemas Login: first_name is not in camelCase": lambda page: page["components"]["schemas"]["Login"][
        "properties"
    ].update(first_name={"type": "string"}),
    "schemas Forgotten: nothing refers to it": lambda page: page["components"]["schemas"].update(Forgotten={}),
}


@pytest.fixture(scope="module")
def page() -> Json:
    return document()


def test_the_page_is_as_it_should_be(page: Json) -> None:
    assert lint(page) == []


@pytest.mark.asvs("v5.0.0-2.2.1")
def test_whatever_a_request_holds_has_a_bound(page: Json) -> None:
    assert [line for line in lint(page) if line.endswith("has no bound")] == []


@pytest.mark.parametrize("told", RULES)
def test_what_is_wrong_is_told_with_its_place(page: Json, told: str) -> None:
    changed = copy.deepcopy(page)
    RULES[told](changed)
    assert told in lint(changed)
