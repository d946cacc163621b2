"""Values for a schema of the page, right and wrong ones, always the same; what is right, the schema says."""

import re
import string
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**18),
    *("", " ", "x", "null", "not-a-uuid", "2026-13-45", "a@b", "\u202e\ufeff"),
    *("x" * 65, "x" * 101, "x" * 1001, "x" * 2001),
    *([], {}, [None], ["x"], {"a": {"b": []}}, ["x"] * 600, {str(number): "x" for number in range(60)}),
)
"""Wrong almost everywhere; where one is right, it is taken for right."""

ANY_NAME = "word"
"""A field's name where each will do."""

_SEED = 20261121
_TEXT = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(_TEXT, max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_letters, max_size=5), inner),
    max_leaves=5,
)


class Schema:
    """One schema of a page, with what it refers to."""

    def __init__(self, schema: dict[str, Any], components: dict[str, Any]) -> None:
        self._schema = schema
        self._components = components
        whole = {**schema, "components": {"schemas": components}}
        self._validator = Draft202012Validator(whole, format_checker=FormatChecker())

    def is_right(self, value: Any) -> bool:
        return not self.faults(value)

    def faults(self, value: Any) -> list[str]:
        """Why a value is wrong."""
        return [f"{error.json_path}: {error.message[:200]}" for error in self._validator.iter_errors(value)]

    def right(self, count: int) -> list[Any]:
        """So many right values, or as many as there are."""
        return [value for value in _examples(self._values(self._schema), 3 * count) if self.is_right(value)][:count]

    def wrong(self, count: int) -> list[Any]:
        """All odd ones, and so many made by chance."""
        return [value for value in (*ODD, *_anything(count)) if not self.is_right(value)]

    @property
    def required(self) -> list[str]:
        """The fields that an object must have."""
        return list(self._structure().get("required", []))

    @property
    def is_closed(self) -> bool:
        """Whether it is an object that takes no other fields."""
        return self._structure().get("additionalProperties") is False

    def fields(self) -> dict[str, "Schema"]:
        """The fields of an object, and one more where each may have any name."""
        structure = self._structure()
        found = dict(structure.get("properties", {}))
        if isinstance(other := structure.get("additionalProperties"), dict):
            found[ANY_NAME] = other
        return {name: Schema(each, self._components) for name, each in found.items()}

    def items(self) -> "Schema | None":
        """The items of a list; None: it is none."""
        items = self._structure().get("items")
        return None if items is None else Schema(items, self._components)

    def places(self, at: str = "") -> Iterator[str]:
        """Each place further in: ``field.field`` and ``field[1]``, the second item of a list."""
        inner = {f"{at}.{name}".lstrip("."): each for name, each in self.fields().items()}
        if (items := self.items()) is not None:
            inner[f"{at}[1]"] = items
        for place, schema in inner.items():
            yield place
            yield from schema.places(place)

    def _structure(self) -> dict[str, Any]:
        """The schema itself, without its name and without the choice of null."""
        found = self._schema
        while (choices := found.get("anyOf")) or "$ref" in found:
            found = choices[0] if choices else self._components[found["$ref"].rpartition("/")[2]]
        return found

    def _values(self, schema: dict[str, Any]) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911 - a line per kind
        match schema:
            case {"$ref": name}:
                return self._values(self._components[name.rpartition("/")[2]])
            case {"anyOf": choices}:
                return st.one_of([self._values(choice) for choice in choices])
            case {"enum": choices}:
                return st.sampled_from(choices)
            case {"type": "null"}:
                return st.none()
            case {"type": "boolean"}:
                return st.booleans()
            case {"type": "integer"}:
                return st.integers(schema.get("minimum", -1000), schema.get("maximum", 1000))
            case {"type": "array"}:
                size = min(schema.get("maxItems", 5), 5)
                return st.lists(self._values(schema["items"]), min_size=schema.get("minItems", 0), max_size=size)
            case {"type": "object", "properties": fields}:
                wanted = {name for name in fields if name in schema.get("required", [])}
                known = {name: self._values(each) for name, each in fields.items()}
                return st.fixed_dictionaries(
                    {name: known[name] for name in wanted}, optional={n: known[n] for n in fields.keys() - wanted}
                )
            case {"type": "object"}:
                names = st.text(string.ascii_letters, min_size=1, max_size=20)
                return st.dictionaries(names, self._values(schema.get("additionalProperties") or {}), max_size=5)
            case {"type": "string"}:
                return _texts(schema)
        return _ANYTHING


def _texts(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    match schema.get("format"):
        case "uuid":
            return st.uuids().map(str)
        case "date":
            return st.dates().map(str)
        case "date-time":
            times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001 - the zone is given below
            return times.map(lambda at: at.replace(tzinfo=UTC).isoformat())
    pattern = schema.get("pattern")
    if pattern is not None and pattern != r"\S":
        alphabet = st.characters(codec="ascii", categories=["L", "Nd", "P"])
        return st.from_regex(re.compile(pattern), alphabet=alphabet, fullmatch=False)
    return st.text(_TEXT, min_size=schema.get("minLength", 0), max_size=min(schema.get("maxLength", 50), 2000))


def in_query(schema: dict[str, Any], text: str) -> Any:
    """What a parameter's text stands for."""
    if schema.get("type") == "integer" and re.fullmatch(r"-?\d+", text):
        return int(text)
    if schema.get("type") == "boolean" and text.lower() in {"true", "false", "1", "0"}:
        return text.lower() in {"true", "1"}
    return text


@cache
def _anything(count: int) -> list[Any]:
    return list(_examples(_ANYTHING, count))


def _examples(strategy: st.SearchStrategy[Any], count: int) -> Iterator[Any]:
    """Examples of a strategy, each once and always the same."""
    found: list[Any] = []

    @seed(_SEED)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        if value not in found:
            found.append(value)

    collect()
    yield from found
