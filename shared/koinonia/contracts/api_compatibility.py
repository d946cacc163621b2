"""Whether the API page breaks clients that were written by the last released one.

What they send must go on being taken, and what they are answered must go on being readable. A request may gain
optional fields and looser limits; an answer may gain fields. A list of values in an answer is closed, as the typed
client refuses others: one that is meant to grow says ``x-extensible-enum`` in the place of ``enum``.

Source: Zalando RESTful API Guidelines, 112.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

_Json = dict[str, Any]

_TOLD = {"title", "description", "default", "deprecated", "example", "examples"}
_LOOKED_INTO = {"type", "enum", "const", "properties", "required", "additionalProperties", "propertyNames", "items"}
_AT_MOST = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
_AT_LEAST = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
_BOUNDS_AT_ZERO = {"minimum", "exclusiveMinimum"}  # of numbers; no length is below 0 anyhow
_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def breaking_changes(last: _Json, present: _Json) -> list[str]:
    """What in the page ``present`` breaks clients of the page ``last``; each line names the route and the place."""
    return [*_schemes(last, present), *_routes(_resolve(last["paths"], last), _resolve(present["paths"], present))]


def _resolve(node: Any, page: _Json, inside: frozenset[str] = frozenset()) -> Any:
    """The node with what it refers to in place of each reference; one that leads back into itself stays."""
    if isinstance(node, list):
        return [_resolve(item, page, inside) for item in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    if not isinstance(reference, str) or reference in inside:
        return {name: _resolve(item, page, inside) for name, item in node.items()}
    target: Any = page
    for part in reference.removeprefix("#/").split("/"):
        target = target[part]
    return _resolve(target, page, inside | {reference})


def _schemes(last: _Json, present: _Json) -> Iterator[str]:
    now = present["components"].get("securitySchemes", {})
    for name, scheme in last["components"].get("securitySchemes", {}).items():
        if name not in now:
            yield f"security {name}: is gone"
        elif _without_words(scheme) != _without_words(now[name]):
            yield f"security {name}: was {_without_words(scheme)}, is {_without_words(now[name])}"


def _without_words(scheme: _Json) -> _Json:
    return {name: value for name, value in scheme.items() if name not in _TOLD}


def _routes(last: _Json, now: _Json) -> Iterator[str]:
    for path, item in last.items():
        for method, operation in item.items():
            route = f"{method.upper()} {path}"
            if method in now.get(path, {}):
                yield from (f"{route}: {reason}" for reason in _operation(operation, now[path][method]))
            else:
                yield f"{route}: the route is gone"


def _operation(last: _Json, now: _Json) -> Iterator[str]:
    if last.get("operationId") != now.get("operationId"):
        yield f"operationId: was {last.get('operationId')!r}, is {now.get('operationId')!r}"
    yield from _callers(last, now)
    yield from _fields(_parameters(last), _parameters(now), "", asked=True)
    yield from _body(last.get("requestBody"), now.get("requestBody"))
    for status, answer in last["responses"].items():
        if status not in now["responses"]:
            yield f"{status}: is answered no more"
        else:
            yield from _answer(answer, now["responses"][status], status)


def _callers(last: _Json, now: _Json) -> Iterator[str]:
    ways = now.get("security") or [{}]
    for way in last.get("security") or [{}]:
        if not any(other.keys() <= way.keys() for other in ways):
            yield f"who shows {' and '.join(way) or 'nothing'} is let in no more"
    if "x-roles" in now:
        for role in last.get("x-roles", ()):
            if role not in now["x-roles"]:
                yield f"the role {role} may call it no more"
    if last.get("x-test-keys") and not now.get("x-test-keys", True):
        yield "test keys may call it no more"


def _parameters(operation: _Json) -> _Json:
    """The parameters as the schema of an object, whose fields are named as ``query limit``."""
    found = {f"{each['in']} {each['name']}": each for each in operation.get("parameters", ())}
    return {
        "properties": {name: each.get("schema", {}) for name, each in found.items()},
        "required": [name for name, each in found.items() if each.get("required")],
        "additionalProperties": False,
    }


def _body(last: _Json | None, now: _Json | None) -> Iterator[str]:
    if last is None or now is None:
        if last is not None:
            yield "body: is refused now"
        elif now is not None and now.get("required"):
            yield "body: must be given now"
        return
    if now.get("required") and not last.get("required"):
        yield "body: must be given now"
    yield from _content(last, now, "body", asked=True)


def _answer(last: _Json, now: _Json, status: str) -> Iterator[str]:
    for name in last.get("headers", {}):
        if name not in now.get("headers", {}):
            yield f"{status} {name}: the header is gone"
        else:
            before, after = (side["headers"][name].get("schema", {}) for side in (last, now))
            yield from _values(before, after, f"{status} {name}", asked=False)
    yield from _content(last, now, status, asked=False)


def _content(last: _Json, now: _Json, place: str, *, asked: bool) -> Iterator[str]:
    after = now.get("content", {})
    for kind, media in last.get("content", {}).items():
        if kind not in after:
            yield f"{place} {kind}: is {'refused now' if asked else 'answered no more'}"
            continue
        for schema in ("schema", "x-event-data"):
            yield from _values(media.get(schema, {}), after[kind].get(schema, {}), place, asked=asked)


def _values(last: _Json, now: _Json, place: str, *, asked: bool) -> Iterator[str]:
    """What was taken and is taken no more (``asked``), or what is answered now and never was."""
    inner, outer = (last, now) if asked else (now, last)
    for choice in _choices(inner):
        kind = _kind(choice)
        tries = [
            list(_choice(choice, other, place, asked=asked))
            if asked
            else list(_choice(other, choice, place, asked=asked))
            for other in _choices(outer)
            if _kind(other) in {kind, "anything"} or (kind, _kind(other)) == ("integer", "number")
        ]
        yield from min(tries, key=len) if tries else [f"{place}: {kind} {_change(asked=asked)}"]


def _choices(schema: _Json) -> list[_Json]:
    """What a value may be instead of one another, each of one kind."""
    for name in ("anyOf", "oneOf"):
        if name in schema:
            return [choice for each in schema[name] for choice in _choices(each)]
    if "enum" in schema and "type" not in schema:
        values = sorted(schema["enum"], key=_kind_of)
        return [{**schema, "enum": list(group)} for _, group in groupby(values, _kind_of)]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": kind} for kind in schema["type"]]
    return [schema]


def _kind(schema: _Json) -> str:
    if "type" in schema:
        return str(schema["type"])
    values = _listed(schema)
    if values:
        return _kind_of(values[0])
    return "object" if "properties" in schema else "anything"


def _kind_of(value: Any) -> str:
    return _KINDS.get(type(value), "anything")


def _listed(schema: _Json) -> list[Any] | None:
    """The only values there are; None: no list."""
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _change(*, asked: bool) -> str:
    return "was taken, is refused now" if asked else "was never answered, may be now"


def _choice(last: _Json, now: _Json, place: str, *, asked: bool) -> Iterator[str]:
    """The same for two schemas of one kind."""
    inner, outer = (last, now) if asked else (now, last)
    for name in sorted(outer.keys() - _TOLD - _LOOKED_INTO):
        if not name.startswith("x-") and not _is_within(name, inner.get(name), outer[name]):
            yield f"{place}: {name} was {last.get(name, 'free')!r}, is {now.get(name, 'free')!r}"
    allowed, values = _listed(outer), _listed(inner)
    if allowed is not None:
        others = ["any value"] if values is None else [repr(value) for value in values if value not in allowed]
        yield from (f"{place}: {value} {_change(asked=asked)}" for value in others)
    if "items" in outer or "items" in inner:
        yield from _values(last.get("items", {}), now.get("items", {}), f"{place}[]", asked=asked)
    if _kind(last) == _kind(now) == "object":
        yield from _fields(last, now, f"{place}.", asked=asked)


def _is_within(name: str, inner: Any, outer: Any) -> bool:
    if name in _AT_MOST | _AT_LEAST and inner is not None:
        return bool(inner <= outer if name in _AT_MOST else inner >= outer)
    return bool(inner == outer or (name in _AT_LEAST and outer == 0 and name not in _BOUNDS_AT_ZERO))


def _fields(last: _Json, now: _Json, prefix: str, *, asked: bool) -> Iterator[str]:
    before, after = last.get("properties", {}), now.get("properties", {})
    must, must_now = set(last.get("required", ())), set(now.get("required", ()))
    for name, schema in before.items():
        if name not in after:
            yield f"{prefix}{name}: is gone"
            continue
        yield from _values(schema, after[name], f"{prefix}{name}", asked=asked)
        if asked and name not in must | must_now and schema.get("default") != after[name].get("default"):
            meant, means = schema.get("default"), after[name].get("default")
            yield f"{prefix}{name}: left out, it meant {meant!r} and means {means!r}"
    if asked:
        yield from (f"{prefix}{name}: must be given now" for name in sorted(must_now - must))
    else:
        yield from (
            f"{prefix}{name}: was always there, may be missing now" for name in sorted((must - must_now) & after.keys())
        )
    yield from _further_fields(last, now, prefix, asked=asked)


def _further_fields(last: _Json, now: _Json, prefix: str, *, asked: bool) -> Iterator[str]:
    """Those that the schema does not name: the entries of a map. Of an answer, clients skip what they do not know."""
    before, after = (side.get("additionalProperties", True) for side in (last, now))
    if before is False:
        return
    if after is False:
        if asked or before is not True:
            yield f"{prefix}*: {'is refused now' if asked else 'is gone'}"
        return
    before, after = ({} if rest is True else rest for rest in (before, after))
    yield from _values(before, after, f"{prefix}*", asked=asked)
    before, after = ({"type": "string"} | side.get("propertyNames", {}) for side in (last, now))
    yield from _values(before, after, f"{prefix}* (its name)", asked=asked)
