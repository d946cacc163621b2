"""One person once: whom a draft means, and what a change does."""

from uuid import UUID

import msgspec
import pytest

from koinonia.ids import new_id
from koinonia_messaging.domain.people import (
    Change,
    Directory,
    Draft,
    Merged,
    Person,
    Sealed,
    changed,
    is_same,
    merged,
    name_key,
)

BRANCH = new_id()


def phone(digit: int, ciphertext: bytes = b"c") -> Sealed:
    return Sealed(bytes([digit]) * 16, ciphertext)


def person(number: int = 1, **values: object) -> Person:
    given: dict[str, object] = {
        "id": UUID(int=number),
        "version": 1,
        "first_name": "Anna",
        "last_name": "Lee",
        "phone": phone(1),
        "email": None,
        "branch_id": BRANCH,
        "opted_in": False,
        "external_id": None,
        "custom_fields": {},
        **values,
    }
    return Person(**given)  # type: ignore[arg-type]


def draft(
    first_name: str = "Anna", digit: int = 1, external_id: str | None = None, change: Change | None = None
) -> Draft:
    return Draft(
        first_name=first_name,
        last_name="Lee",
        phone=phone(digit),
        external_id=external_id,
        change=change or Change(first_name=first_name, phone=phone(digit)),
    )


@pytest.mark.parametrize(("first", "last"), [("ANNA", "lee"), ("  Anna ", "Lee "), ("anna", " Lee")])
def test_names_are_compared_without_case_and_spaces(first: str, last: str) -> None:
    assert name_key(first, last) == name_key("Anna", "Lee")


def test_a_change_that_changes_nothing_leaves_the_version() -> None:
    before = person()
    assert changed(before, Change(first_name="Anna", phone=phone(1, b"other ciphertext"))) is before


def test_a_change_counts_the_version_and_keeps_what_is_unset() -> None:
    after = changed(person(external_id="7"), Change(first_name="Ann", external_id=None))
    assert (after.version, after.first_name, after.last_name, after.external_id) == (2, "Ann", "Lee", None)


def test_a_draft_means_the_person_with_its_external_id_whatever_the_name() -> None:
    known = person(external_id="7")
    assert Directory([known], BRANCH).find(draft("Bob", 2, external_id="7")) == known


def test_a_draft_without_external_id_means_the_person_with_its_phone_and_name() -> None:
    known = person(external_id="7")
    directory = Directory([known], BRANCH)
    assert directory.find(draft("anna")) == known
    assert directory.find(draft("Bob")) is None
    assert directory.find(draft("Anna", 2)) is None


def test_two_external_ids_are_two_people_though_phone_and_name_are_one() -> None:
    assert Directory([person(external_id="7")], BRANCH).find(draft(external_id="8")) is None


def test_a_draft_with_an_external_id_names_the_person_who_had_none() -> None:
    directory = Directory([person()], BRANCH)
    outcome, identifier = directory.take(draft(external_id="8", change=Change(external_id="8")))
    assert (outcome, identifier) == ("updated", UUID(int=1))
    assert directory.find(draft("Bob", external_id="8")) is not None


def test_of_two_people_with_one_name_the_one_without_external_id_is_meant() -> None:
    plain = person(2)
    for order in ([person(1, external_id="7"), plain], [plain, person(3, external_id="7")]):
        assert Directory(order, BRANCH).find(draft()) == plain


def test_doubles_inside_a_batch_are_one_person() -> None:
    directory = Directory([], BRANCH)
    outcomes = [
        directory.take(draft()),
        directory.take(draft()),
        directory.take(draft(change=Change(opted_in=True))),
    ]
    assert [outcome for outcome, _ in outcomes] == ["created", "skipped", "updated"]
    assert len({identifier for _, identifier in outcomes}) == 1
    assert [each.opted_in for each in directory.touched] == [True]


def test_a_row_of_a_merged_record_adds_to_the_kept_one_and_makes_nobody() -> None:
    kept = person(external_id="7", opted_in=True, custom_fields={"a": "1"})
    aliases = [
        Merged(external_id="8", key=(phone(2).index, "ann lee"), kept=kept),
        Merged(external_id=None, key=(phone(3).index, "ann lee"), kept=kept),
    ]
    directory = Directory([], BRANCH, (), aliases)
    told = Change(first_name="Ann", phone=phone(2), external_id="8", opted_in=True, custom_fields={"a": "2"})
    for row in (draft("Ann", 2, "8", told), draft("X", 9, "8", told), draft("Ann", 2), draft("Ann", 3)):
        assert directory.take(row) == ("skipped", kept.id)
    more = msgspec.structs.replace(told, opted_in=False, custom_fields={"a": "2", "b": "3"})
    assert directory.take(draft("Ann", 2, "8", more)) == ("updated", kept.id)
    assert directory.take(draft("Ann", 3, change=Change(custom_fields={"c": "4"}))) == ("updated", kept.id)
    (after,) = directory.touched
    assert after == msgspec.structs.replace(
        kept, version=3, opted_in=False, custom_fields={"a": "1", "b": "3", "c": "4"}
    )
    # Another external id is another person, and who is there is meant before a record that is gone.
    assert directory.take(draft("Ann", 3, "9"))[0] == "created"
    there = person(2, first_name="Ann", phone=phone(2), external_id="8")
    assert Directory([there], BRANCH, (), aliases).take(draft("Ann", 2, "8")) == ("skipped", there.id)


def test_two_of_one_name_and_phone_may_both_be_renamed_in_a_batch() -> None:
    directory = Directory([person(1, external_id="7"), person(2, external_id="8")], BRANCH)
    for external_id in ("7", "8"):
        row = draft(f"Ann{external_id}", external_id=external_id, change=Change(first_name=f"Ann{external_id}"))
        assert directory.take(row)[0] == "updated"


def test_a_renamed_person_is_not_found_under_the_old_name() -> None:
    directory = Directory([person(external_id="7")], BRANCH)
    directory.take(draft("Bob", external_id="7", change=Change(first_name="Bob", external_id="7")))
    assert directory.find(draft("Anna")) is None
    assert directory.find(draft("Bob")) is not None


def test_an_import_gives_no_consent_where_the_number_has_opted_out() -> None:
    opted_out = [phone(1).index]
    directory = Directory([person()], BRANCH, opted_out)
    consent = Change(opted_in=True)
    assert directory.take(draft(change=consent))[0] == "skipped"
    directory.take(draft("Bob", change=consent))
    directory.take(draft("Carl", 2, change=consent))
    assert [each.opted_in for each in directory.touched] == [False, True]


def test_an_import_keeps_the_custom_fields_that_it_does_not_name() -> None:
    directory = Directory([person(custom_fields={"a": "1", "b": "2"})], BRANCH)
    directory.take(draft(change=Change(custom_fields={"b": "3"})))
    assert directory.touched[0].custom_fields == {"a": "1", "b": "3"}


def test_members_are_the_same_by_external_id_else_by_phone_and_name() -> None:
    assert is_same(person(external_id="7"), person(2, external_id="7", first_name="Bob"))
    assert not is_same(person(external_id="7"), person(2, external_id="8"))
    assert is_same(person(external_id="7"), person(2))
    assert not is_same(person(), person(2, first_name="Bob"))


def test_a_merged_person_has_what_either_knew_and_the_stricter_consent() -> None:
    email = Sealed(b"e" * 16, b"c")
    kept = person(opted_in=True, custom_fields={"a": "1"})
    other = person(2, first_name="Ann", external_id="7", email=email, custom_fields={"a": "2", "b": "3"})
    both = merged(kept, other, is_stopped=False)
    assert (both.id, both.first_name, both.version) == (kept.id, "Anna", 2)
    assert (both.external_id, both.email, both.custom_fields) == ("7", email, {"a": "1", "b": "3"})
    assert not both.opted_in
    assert merged(kept, person(2, opted_in=True), is_stopped=False) is kept
    # A STOP of the other's number withdraws; one of the number that both have holds by itself, and may be ended.
    assert not merged(kept, person(2, opted_in=True, phone=phone(2)), is_stopped=True).opted_in
    assert merged(kept, person(2, opted_in=True), is_stopped=True) is kept
