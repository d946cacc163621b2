"""What readers of the API page miss or stumble over, beyond what OpenAPI's own schema asks for.

That schema, and that each example is one of its schema, are checked by tests with openapi-spec-validator and
jsonschema, which no running service needs.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

_Json = dict[str, Any]

_OPERATION_ID = re.compile(r"[a-z][a-zA-Z]*\.[a-z][a-zA-Z]*")
_CAMEL_CASE = re.compile(r"[a-z][a-zA-Z0-9]*")
_BOUNDS = {"maxLength", "format", "enum", "pattern"}


def lint(page: _Json) -> list[str]:
    """What is wrong; each line names the route or the component."""
    found = [*_unused(page), *_names(page["components"]["schemas"])]
    ids = Counter(operation["operationId"] for _, operation in _operations(page))
    found += [f"{name}: {count} operations have this operationId" for name, count in ids.items() if count > 1]
    for route, operation in _operations(page):
        found += [f"{route}: {line}" for line in (*_words(operation, page), *_contents(operation, page))]
    return found


def _operations(page: _Json) -> Iterator[tuple[str, _Json]]:
    for path, item in page["paths"].items():
        yield from ((f"{method.upper()} {path}", operation) for method, operation in item.items())


def _unused(page: _Json) -> Iterator[str]:
    text = json.dumps(page)
    for kind in ("schemas", "responses", "headers"):
        for name in page["components"].get(kind, {}):
            if f'"#/components/{kind}/{name}"' not in text:
                yield f"{kind} {name}: nothing refers to it"


def _names(schemas: _Json) -> Iterator[str]:
    for name, schema in schemas.items():
        for field in schema.get("properties", {}):
            if not _CAMEL_CASE.fullmatch(field):
                yield f"schemas {name}: {field} is not in camelCase"


def _words(operation: _Json, page: _Json) -> Iterator[str]:
    if not _OPERATION_ID.fullmatch(operation["operationId"]):
        yield "the operationId is not noun.verb"
    summary = operation.get("summary", "")
    if not summary or len(summary) > 60 or summary.endswith("."):
        yield "the summary is not a title: up to 60 characters, without a full stop"
    if not operation.get("description"):
        yield "there is no description"
    if operation.get("tags", []) not in [[tag["name"]] for tag in page["tags"]]:
        yield "there is not one tag, of those that the page has"
    for parameter in operation.get("parameters", ()):
        if parameter["in"] != "header" and not _CAMEL_CASE.fullmatch(parameter["name"]):
            yield f"the parameter {parameter['name']} is not in camelCase"


def _contents(operation: _Json, page: _Json) -> Iterator[str]:
    body = operation.get("requestBody", {}).get("content", {})
    for kind, media in body.items():
        if not _has_example(media):
            yield f"the body {kind} has no example"
    for place in sorted(set(_unbounded(body.get("application/json", {}).get("schema", {}), page, "body"))):
        yield f"{place} has no bound"
    responses = operation.get("responses", {})
    if "x-owner" in operation and not {"400", "429", "500", "503"} <= responses.keys():
        yield "400, 429, 500 or 503 is missing, which every route can answer"
    for status, response in responses.items():
        for kind, media in _resolve(response, page).get("content", {}).items():
            if "$ref" in media.get("schema", {}) and not _has_example(media):
                yield f"{status} {kind} has no example"


def _has_example(media: _Json) -> bool:
    values = [media.get("example"), *(each.get("value") for each in media.get("examples", {}).values())]
    return any(value is not None for value in values)


def _resolve(node: _Json, page: _Json) -> _Json:
    if "$ref" in node:
        _, kind, name = node["$ref"].removeprefix("#/").split("/")
        resolved: _Json = page["components"][kind][name]
        return resolved
    return node


def _unbounded(schema: _Json, page: _Json, place: str, inside: tuple[str, ...] = ()) -> Iterator[str]:
    """Texts, lists and maps that a request could fill without end, and objects that take fields nobody knows."""
    if (reference := schema.get("$ref", "")) in inside and reference:
        return
    inside = (*inside, reference)
    schema = _resolve(schema, page)
    for choice in schema.get("anyOf", ()):
        yield from _unbounded(choice, page, place, inside)
    if schema.get("type") == "string" and not _BOUNDS & schema.keys():
        yield place
    if schema.get("type") == "array":
        if "maxItems" not in schema:
            yield place
        yield from _unbounded(schema["items"], page, f"{place}[]", inside)
    if isinstance(entries := schema.get("additionalProperties"), dict):
        if "maxProperties" not in schema:
            yield place
        yield from _unbounded(entries, page, f"{place}.*", inside)
    elif "properties" in schema and entries is not False:
        yield f"{place}.*"
    for name, field in schema.get("properties", {}).items():
        yield from _unbounded(field, page, f"{place}.{name}", inside)
