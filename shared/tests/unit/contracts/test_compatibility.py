"""What breaks the last version's consumers, and what does not."""

import copy
from pathlib import Path
from typing import Any

import pytest

from koinonia import contracts
from koinonia.contracts.compatibility import breaking_changes
from koinonia.contracts.events import event_files, event_schema
from koinonia.events import ALL
from koinonia.events.messaging import MembersChanged

LAST = event_schema(MembersChanged)


def changed() -> tuple[dict[str, Any], dict[str, Any]]:
    """A copy to change, and the schema of one member in it."""
    copied = copy.deepcopy(LAST)
    return copied, copied["$defs"]["MemberState"]


def test_the_same_schema_breaks_nobody() -> None:
    assert breaking_changes(LAST, copy.deepcopy(LAST)) == []


def test_a_new_optional_field_and_another_description_break_nobody() -> None:
    present, member = changed()
    member["properties"]["nickname"] = {"type": "string", "default": ""}
    member["description"] = "Another."
    assert breaking_changes(LAST, present) == []


def test_a_field_that_is_gone_is_named() -> None:
    present, member = changed()
    del member["properties"]["lastName"]
    assert any(".lastName: the field is gone" in line for line in breaking_changes(LAST, present))


def test_a_field_of_another_type_is_named() -> None:
    present, member = changed()
    member["properties"]["version"]["type"] = "string"
    assert any(".version.type: was 'integer', is 'string'" in line for line in breaking_changes(LAST, present))


def test_a_new_required_field_breaks_what_is_queued() -> None:
    present, member = changed()
    member["properties"]["nickname"] = {"type": "string"}
    member["required"].append("nickname")
    assert any(".nickname: must be there now" in line for line in breaking_changes(LAST, present))


def test_a_field_that_became_optional_breaks_readers() -> None:
    present, member = changed()
    member["required"].remove("branchId")
    assert any(".branchId: was always there" in line for line in breaking_changes(LAST, present))


def test_another_value_of_an_enumeration_breaks_readers() -> None:
    present, _ = changed()
    present["$defs"]["MembersChanged"]["properties"]["source"]["enum"].append("robot")
    assert breaking_changes(LAST, present) != []


def test_a_larger_limit_breaks_readers() -> None:
    present, _ = changed()
    present["$defs"]["MembersChanged"]["properties"]["members"]["maxItems"] = 1000
    assert any(".maxItems: was 500, is 1000" in line for line in breaking_changes(LAST, present))


def test_generated_files_are_checked_for_drift_and_breaks(tmp_path: Path) -> None:
    contracts.generate(tmp_path)
    assert contracts.check(tmp_path) == []
    contracts.release(tmp_path)
    assert contracts.check(tmp_path) == []
    (tmp_path / "events" / "messaging.message.due.v1.schema.json").write_text("{}")
    (tmp_path / "events" / "old.v1.schema.json").write_text("{}")
    (tmp_path / "last" / "gone.event.happened.v1.schema.json").write_text("{}")
    found = contracts.check(tmp_path)
    assert [line.split(":")[0] for line in found] == [
        "events/messaging.message.due.v1.schema.json",
        "events/old.v1.schema.json",
        "gone.event.happened.v1.schema.json",
    ]
    assert contracts.generate(tmp_path) == [line.split(":")[0] for line in found[:2]]
    assert not (tmp_path / "events" / "old.v1.schema.json").exists()


def test_the_files_of_the_repository_are_those_of_the_code() -> None:
    folder = next(parent / "proto-schemas" for parent in Path(__file__).parents if (parent / "proto-schemas").is_dir())
    assert contracts.check(folder) == []


@pytest.mark.parametrize("kind", ["schema", "example"])
def test_every_event_has_its_files(kind: str) -> None:
    names = event_files().keys()
    assert {f"events/{each.TYPE}.v{each.VERSION}.{kind}.json" for each in ALL} <= names
