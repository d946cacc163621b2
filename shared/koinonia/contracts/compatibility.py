"""Whether a schema breaks those who know its last released version: readers of new events, and events still queued.

Additive only. What stood in the last version stands unchanged, at every depth; what is new is optional. Anything else
is a new version of the event beside the old one.
"""

from collections.abc import Iterator
from typing import Any

_FREE = frozenset({"description", "title", "$id", "$schema", "$defs", "default", "examples"})


def breaking_changes(last: dict[str, Any], present: dict[str, Any]) -> list[str]:
    """What in ``present`` breaks consumers or queued events of ``last``; each line names the place."""
    return list(_compare(_Side(last), last, _Side(present), present, "$"))


class _Side:
    def __init__(self, document: dict[str, Any]) -> None:
        self._definitions = document.get("$defs", {})

    def resolve(self, schema: Any) -> Any:
        while isinstance(schema, dict) and "$ref" in schema:
            schema = self._definitions[schema["$ref"].rpartition("/")[2]]
        return schema


def _compare(old_side: _Side, old: Any, new_side: _Side, new: Any, place: str) -> Iterator[str]:
    old, new = old_side.resolve(old), new_side.resolve(new)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _compare(old_side, one, new_side, other, f"{place}[{index}]")
    elif not isinstance(old, dict) or not isinstance(new, dict):
        if old != new:
            yield f"{place}: was {old!r}, is {new!r}"
    else:
        yield from _compare_objects(old_side, old, new_side, new, place)


def _compare_objects(
    old_side: _Side, old: dict[str, Any], new_side: _Side, new: dict[str, Any], place: str
) -> Iterator[str]:
    for name in sorted((old.keys() | new.keys()) - _FREE - {"properties", "required"}):
        if name not in old or name not in new:
            yield f"{place}.{name}: {'is new' if name in new else 'is gone'}"
        else:
            yield from _compare(old_side, old[name], new_side, new[name], f"{place}.{name}")
    for name, schema in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            yield f"{place}.{name}: the field is gone"
        else:
            yield from _compare(old_side, schema, new_side, new["properties"][name], f"{place}.{name}")
    before, after = set(old.get("required", ())), set(new.get("required", ()))
    for name in sorted(before - after):
        yield f"{place}.{name}: was always there, is optional now"
    for name in sorted(after - before):
        yield f"{place}.{name}: must be there now, and is missing from events that are still queued"
