"""From what came over the wire to checked structs; every error names its field."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from multidict import MultiMapping

from koinonia import validation
from koinonia.api import Endpoint, Query, Request
from koinonia.api.endpoint import JSON
from koinonia.errors import FieldError, NotFound, ValidationFailed
from koinonia.web import strict_json

CONTENT_TYPE = "Content-Type"

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def path_ids(endpoint: Endpoint, values: Mapping[str, str]) -> dict[str, UUID]:
    """The ids in the path. What is no UUID names nothing: 404, as an unknown one does."""
    return {name: _path_id(values[name]) for name in endpoint.parameters}


def query(endpoint: Endpoint, values: MultiMapping[str]) -> Query:
    """The query string as the endpoint's struct."""
    names = Counter(name for name, _ in values.items())
    errors = [FieldError(name, "Given twice") for name, count in names.items() if count > 1]
    errors += [FieldError(name, message) for name in names if (message := strict_json.text_error(values[name]))]
    if errors:
        raise ValidationFailed(details=errors[: validation.MAX_REPORTED])
    found: Query = validation.convert(dict(values.items()), endpoint.query, strict=False)
    fields = msgspec.structs.fields(found)
    nulls = [each.encode_name for each in fields if each.encode_name in names and getattr(found, each.name) is None]
    if nulls:  # msgspec reads the text "null" as none
        raise ValidationFailed(details=[FieldError(name, "Must not be null") for name in nulls])
    return found


def body(endpoint: Endpoint, raw: bytes, content_type: str | None) -> Any:
    """The body as the endpoint's struct; None when the endpoint takes none. Other types are a handler's own."""
    if not endpoint.takes_body:
        if raw.strip() not in {b"", b"{}"}:
            raise ValidationFailed.field(validation.WHOLE, "This request takes none")
        return None
    if media_type(endpoint, content_type) != JSON:
        raise ValidationFailed.field(CONTENT_TYPE, f"Must be {JSON}")
    if not raw:
        raise ValidationFailed.field(validation.WHOLE, "Must be JSON")
    return validation.convert(strict_json.loads(raw), endpoint.request, strict=True)


def check(*parts: object) -> None:
    """Refuse what is wrong beyond the types of single fields."""
    errors = [error for part in parts if isinstance(part, Request | Query) for error in part.check()]
    if errors:
        raise ValidationFailed(details=errors[: validation.MAX_REPORTED])


def _path_id(text: str) -> UUID:
    if not _UUID.fullmatch(text):
        raise NotFound
    return UUID(text)


def media_type(endpoint: Endpoint, content_type: str | None) -> str:
    """Which of its types a body is; of others than JSON the charset is found out, whatever is said of it.

    Raises:
        ValidationFailed: none of them.
    """
    kind, *parameters = [part.strip().lower() for part in (content_type or "").split(";")]
    if kind not in endpoint.consumes:
        raise ValidationFailed.field(CONTENT_TYPE, f"Must be {' or '.join(endpoint.consumes)}")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if kind == JSON and name == "charset" and value.strip('"') not in {"utf-8", "utf8"}:
            raise ValidationFailed.field(CONTENT_TYPE, "The charset must be utf-8")
    return kind
