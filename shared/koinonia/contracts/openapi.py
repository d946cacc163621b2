"""The OpenAPI 3.1 page of the public API, made from ``koinonia.api`` alone; the same code gives the same bytes."""

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from koinonia import errors
from koinonia.api import ENDPOINTS, Endpoint, ErrorBody, ErrorResponse, Role, health
from koinonia.api.common import example_of
from koinonia.errors import FieldError, KoinoniaError

TITLE = "Koinonia"
VERSION = "1"

_SCHEMAS = "#/components/schemas/"
_DESCRIPTION = """Texting for churches. Ids are UUIDs, times RFC 3339 in UTC, phones E.164, money integer cents.

**Who may call.** A browser session (cookies from register or login; a state-changing request also needs
`X-CSRF-Token` from `GET /api/csrf-token`), or an API key (`Authorization: Bearer koi_…`). `x-roles` of a route names
the roles that may, its security whether an API key may, and its description says both in words.

**Second factor.** Where a church or the platform requires it, a person's session without it gets `MFA_REQUIRED` from
every route but those that turn it on. API keys are programs' and have none.

**Trying it out.** What is sent with a test key (`koi_test_…`) is answered by a simulated carrier: nobody is texted, and
nobody pays. It reads the same church's data and changes nothing but tests: `x-test-keys` of a route says whether it may
ask. Lists of what was sent hold either tests or the rest.

**Lists.** `?limit=` and `&cursor=`; the answer's `nextCursor` begins the next page.

**Repeating safely.** Where `Idempotency-Key` is listed, the same key and body give the first successful answer again
for 24 hours, marked `Idempotent-Replayed: true`. Under `/api/auth/` and `/api/admin/mfa/` it is not looked at: those
answers are secrets and cookies, which are stored nowhere and cannot be given again. A second factor's code is good
once, so that the same request again changes nothing.

**What may change.** Answers gain fields, requests optional ones: skip what you do not know. A change that would break
a client of the last version is refused before it is released.

**Errors.** `{"error": {"code", "message", "details", "requestId"}}`; `details` names each field. A path
with another method answers 405 `METHOD_NOT_ALLOWED`. Bodies are JSON in UTF-8 without repeated keys, NaN, NUL or half
surrogate pairs, nested at most 32 deep."""
_CSV_EXAMPLE = "firstName,lastName,phone,optInSms\nAnna,Lee,+13125550142,true\n"


def document() -> dict[str, Any]:
    """The page as a JSON value."""
    components = _components()
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, components)
    for path, (response, summary) in _HEALTH.items():
        paths[path] = {"get": _health_operation(path, response, summary)}
    for kind in {endpoint.query for endpoint in ENDPOINTS}:
        components.pop(kind.__name__, None)  # they are parameters
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": VERSION, "description": _DESCRIPTION},
        "tags": [{"name": tag} for tag in [*dict.fromkeys(_tag(endpoint) for endpoint in ENDPOINTS), "health"]],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": _SECURITY_SCHEMES,
            "headers": _HEADERS,
            "responses": _error_responses(),
        },
    }


def _all_errors() -> dict[str, type[KoinoniaError]]:
    known = (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, KoinoniaError))
    return {kind.code: kind for kind in known}


_ERRORS = _all_errors()
_HEALTH: dict[str, tuple[type[Any], str]] = {
    "/health": (health.Health, "How the gateway is"),
    "/ready": (health.Readiness, "Whether it takes requests"),
    "/alive": (health.Liveness, "Whether it runs"),
}
_HEADERS = {
    "X-Request-Id": {"description": "The id sent in when it was sane, else a new one", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}},
    "RateLimit": {
        "description": "The limit's policy, what remains, and seconds to its reset",
        "schema": {"type": "string"},
    },
    "Idempotent-Replayed": {"description": "`true` on an answer given again", "schema": {"type": "string"}},
}
_SECURITY_SCHEMES = {
    "session": {"type": "apiKey", "in": "cookie", "name": "accessToken", "description": "Set by register and login"},
    "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token", "description": "From `GET /api/csrf-token`"},
    "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key, `koi_…`"},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes repeating this request safe for 24 hours",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
}
_LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The last event that was seen of a broken stream",
    "schema": {"type": "string", "pattern": "^[0-9]+$"},
}


def _components() -> dict[str, Any]:
    kinds: list[Any] = [ErrorResponse, *(response for response, _ in _HEALTH.values())]
    for endpoint in ENDPOINTS:
        kinds += [endpoint.request, endpoint.query, endpoint.response, endpoint.stream_item]
    unique = list(dict.fromkeys(kind for kind in kinds if kind is not None))
    _, components = msgspec.json.schema_components(unique, ref_template=_SCHEMAS + "{name}")
    named: dict[str, Any] = json.loads(_page_names(json.dumps(components)))
    for kind in unique:
        if hasattr(kind, "example") and _name(kind) in named:
            named[_name(kind)]["examples"] = [_example(kind)]
    return named


def _page_names(text: str) -> str:
    """msgspec calls ``Page[Member]`` Page_Member_; people would say MemberPage."""
    return re.sub(r"\bPage_(\w+?)_(?=\")", r"\1Page", text)


def _name(kind: Any) -> str:
    arguments = getattr(kind, "__args__", ())
    return f"{arguments[0].__name__}Page" if arguments else str(kind.__name__)


def _reference(kind: Any) -> dict[str, str]:
    return {"$ref": _SCHEMAS + _name(kind)}


def _example(kind: Any) -> Any:
    if kind is ErrorResponse:
        return _error_example(errors.ValidationFailed)
    return json.loads(msgspec.json.encode(example_of(kind)))


def _operation(endpoint: Endpoint, components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "tags": [_tag(endpoint)],
        "summary": endpoint.summary,
    }
    operation["description"] = " ".join(filter(None, (endpoint.description, endpoint.callers)))
    operation["x-owner"] = endpoint.owner
    operation["security"] = _security(endpoint)
    if endpoint.access == "principal":
        operation["x-roles"] = [role for role in get_args(Role) if role in endpoint.roles]
        operation["x-test-keys"] = endpoint.opens_to_tests
    parameters = list(_parameters(endpoint, components))
    if parameters:
        operation["parameters"] = parameters
    if endpoint.takes_body:
        operation["requestBody"] = _request_body(endpoint)
    operation["responses"] = _responses(endpoint)
    return operation


def _tag(endpoint: Endpoint) -> str:
    return endpoint.name.partition(".")[0]


def _security(endpoint: Endpoint) -> list[dict[str, list[str]]]:
    if endpoint.access == "public":
        return []
    session: dict[str, list[str]] = {"session": []} if endpoint.method == "GET" else {"session": [], "csrf": []}
    return [session] if endpoint.people_only else [session, {"apiKey": []}]


def _parameters(endpoint: Endpoint, components: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in endpoint.parameters:
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
    query = components.get(endpoint.query.__name__, {})
    for name, schema in query.get("properties", {}).items():
        yield _query_parameter(name, schema, required=name in query.get("required", []))
    if endpoint.idempotent:
        yield _IDEMPOTENCY_KEY
    if endpoint.stream_item is not None:
        yield _LAST_EVENT_ID


def _query_parameter(name: str, schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    """A parameter that may be left out is no null: there is none in a query string."""
    kept = {key: value for key, value in schema.items() if (key, value) != ("default", None)}
    choices = [choice for choice in kept.pop("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        kept.update(choices[0])
    description = kept.pop("description", None)
    parameter: dict[str, Any] = {"name": name, "in": "query", "required": required, "schema": kept}
    if description:
        parameter["description"] = description
    return parameter


def _request_body(endpoint: Endpoint) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for kind in endpoint.consumes:
        if kind == "text/csv":
            content[kind] = {"schema": {"type": "string"}, "example": _CSV_EXAMPLE}
        elif endpoint.raw_body:
            content[kind] = {"schema": {"type": "object"}, "examples": {"usual": {"value": endpoint.raw_example}}}
        else:
            content[kind] = {"schema": _reference(endpoint.request), "example": _example(endpoint.request)}
    return {"required": True, "description": f"At most {_size(endpoint.body_limit)}", "content": content}


def _size(count: int) -> str:
    return f"{count // 1024**2} MiB" if count >= 1024**2 else f"{count // 1024} KiB"


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    success: dict[str, Any] = {"description": "Done", "headers": _header_references("X-Request-Id")}
    if endpoint.idempotent:
        success["headers"] |= _header_references("Idempotent-Replayed")
    content = _success_content(endpoint)
    if content:
        success["content"] = content
    responses = {str(endpoint.status): success}
    responses |= {str(status): {**success, "description": said} for status, said in endpoint.also}
    for status, codes in _error_codes(endpoint).items():
        responses[str(status)] = {"$ref": f"#/components/responses/{_error_name(codes)}"}
    return responses


def _error_name(codes: list[str]) -> str:
    return ".".join(codes)


def _success_content(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.response is not None:
        return {endpoint.produces: {"schema": _reference(endpoint.response), "example": _example(endpoint.response)}}
    if endpoint.stream_item is not None:
        text = {"type": "string", "description": f"Each event's data is a {_name(endpoint.stream_item)}"}
        return {endpoint.produces: {"schema": text, "x-event-data": _reference(endpoint.stream_item)}}
    if endpoint.status == 204 or endpoint.raw_body:
        return {}
    return {endpoint.produces: {"schema": {"type": "string" if endpoint.produces.startswith("text/") else "object"}}}


def _error_codes(endpoint: Endpoint) -> dict[int, list[str]]:
    codes = ["VALIDATION_ERROR", "RATE_LIMITED", "DEPENDENCY_UNAVAILABLE", "INTERNAL_ERROR", *endpoint.extra_errors]
    if endpoint.access == "principal":
        codes += ["AUTH_ERROR", "FORBIDDEN"]
        codes += ["CSRF_ERROR"] if endpoint.method != "GET" else []
        codes += [] if endpoint.before_mfa else ["MFA_REQUIRED"]
    if endpoint.parameters:
        codes.append("NOT_FOUND")
    if endpoint.takes_body:
        codes.append("PAYLOAD_TOO_LARGE")
    if endpoint.idempotent:
        codes += ["CONFLICT", "IDEMPOTENCY_MISMATCH"]
    by_status: dict[int, list[str]] = {}
    for code in sorted(set(codes)):
        by_status.setdefault(_ERRORS[code].status, []).append(code)
    return dict(sorted(by_status.items()))


def _error_responses() -> dict[str, Any]:
    """Each combination of codes that a route can answer with one status, once."""
    combinations = {
        _error_name(codes): (status, codes)
        for endpoint in ENDPOINTS
        for status, codes in _error_codes(endpoint).items()
    }
    return {name: _error_response(*combination) for name, combination in sorted(combinations.items())}


def _error_response(status: int, codes: list[str]) -> dict[str, Any]:
    headers = ["X-Request-Id", *({429: ["Retry-After", "RateLimit"], 503: ["Retry-After"]}.get(status, []))]
    return {
        "description": "; ".join(f"`{code}`: {_message(_ERRORS[code])}" for code in codes),
        "headers": _header_references(*headers),
        "content": {
            "application/json": {"schema": _reference(ErrorResponse), "example": _error_example(_ERRORS[codes[0]])}
        },
    }


def _header_references(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _error_example(kind: type[KoinoniaError]) -> Any:
    details = [FieldError("phone", "Required")] if kind is errors.ValidationFailed else []
    body = ErrorBody(code=kind.code, message=_message(kind), details=details, request_id="8f14e45fceea167a")
    return json.loads(msgspec.json.encode(ErrorResponse(error=body)))


def _message(kind: type[KoinoniaError]) -> str:
    return kind().message


def _health_operation(path: str, response: type[Any], summary: str) -> dict[str, Any]:
    content = {"application/json": {"schema": _reference(response), "example": _example(response)}}
    operation: dict[str, Any] = {
        "operationId": f"health.{path[1:]}",
        "tags": ["health"],
        "summary": summary,
        "description": (response.__doc__ or "").strip(),
        "security": [],
        "responses": {"200": {"description": "Yes", "content": content}},
    }
    if response is not health.Liveness:
        operation["responses"]["503"] = {"description": "No", "content": content}
    return operation
