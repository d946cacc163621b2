"""The API page follows from the code, is valid, and its examples are examples of its schemas."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate

from koinonia import stripe
from koinonia.api import ENDPOINTS
from koinonia.api.webhooks import STRIPE, TELNYX_MMS, TELNYX_STATUS
from koinonia.carrier.webhooks import parse
from koinonia.contracts.openapi import document as make_document


def _examples(node: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each schema with each of its examples, wherever they stand."""
    if isinstance(node, list):
        for item in node:
            yield from _examples(item)
    if isinstance(node, dict):
        if isinstance(examples := node.get("examples"), list):
            yield from ((node, example) for example in examples)
        if "schema" in node and "example" in node:
            yield node["schema"], node["example"]
        for name, item in node.items():
            if name not in {"example", "examples"}:
                yield from _examples(item)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return make_document()


def test_the_page_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_every_route_is_on_the_page_with_its_roles_and_errors(document: dict[str, Any]) -> None:
    for endpoint in ENDPOINTS:
        operation = document["paths"][endpoint.path][endpoint.method.lower()]
        assert str(endpoint.status) in operation["responses"]
        if endpoint.access == "principal":
            assert set(operation["x-roles"]) == endpoint.roles
            assert {"401", "403"} <= operation["responses"].keys()
            assert ("MFA_REQUIRED" in operation["responses"]["403"]["$ref"]) != endpoint.before_mfa
            assert ({"apiKey": []} in operation["security"]) != endpoint.people_only
        else:
            assert (operation["security"], "x-roles" in operation) == ([], False)
        assert operation["description"].endswith(endpoint.callers)
        if endpoint.idempotent:
            assert {"409", "422"} <= operation["responses"].keys()
            assert "Idempotency-Key" in {parameter["name"] for parameter in operation["parameters"]}


def test_every_example_fits_its_schema(document: dict[str, Any]) -> None:
    examples = list(_examples(document))
    assert len(examples) > 100
    for schema, example in examples:
        jsonschema.Draft202012Validator(
            {**schema, "components": document["components"]},
            format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
        ).validate(example)


def test_a_webhooks_example_is_one_that_we_read() -> None:
    read = {each.name: parse(json.dumps(each.raw_example).encode()) for each in (TELNYX_STATUS, TELNYX_MMS)}
    assert {name: event.event_type for name, event in read.items()} == {
        "webhooks.telnyxStatus": "message.finalized",
        "webhooks.telnyxMms": "message.received",
    }
    assert all(event.message is not None for event in read.values())
    payment = stripe.parse(json.dumps(STRIPE.raw_example).encode())
    assert payment.about is not None
    assert payment.about.customer is not None


def test_the_page_is_the_same_whenever_it_is_made(document: dict[str, Any]) -> None:
    code = "import json; from koinonia.contracts.openapi import document; print(json.dumps(document()))"
    for seed in ("1", "2"):
        made = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        assert made.stdout.decode().strip() == json.dumps(document)
