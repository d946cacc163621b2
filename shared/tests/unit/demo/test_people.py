"""The demo's people: what the file holds, worked out without the platform."""

from uuid import UUID

import pytest

from koinonia.demo import people

HEADER = "externalId,firstName,lastName,phone,email,branchId,groupIds,optInSms\n"
ANNA = "1,Anna,Lee,(205) 555-0101,anna@example.org,North,Choir;Youth,yes\n"


def test_the_file_that_is_shipped_has_what_the_story_needs() -> None:
    roster = people.read(people.FILE.read_text(encoding="utf-8"))
    assert roster.rows == len(roster.people) + roster.repeated + roster.refused
    assert roster.refused > 0
    assert roster.repeated > 0
    assert len(roster.textable) < len(roster.numbers) < len(roster.people)
    assert len(roster.singles) > 200


def test_every_number_of_the_file_is_fictitious() -> None:
    roster = people.read(people.FILE.read_text(encoding="utf-8"))
    assert {phone[5:10] for phone in roster.numbers} == {"55501"}
    assert all(len(phone) == 12 for phone in roster.numbers)


@pytest.mark.parametrize(
    "row",
    [
        "2,Ben,Lee,,,North,,yes\n",
        "2,Ben,Lee,555-0101,,North,,yes\n",
        "2,,Lee,205-555-0102,,North,,yes\n",
        "2,Ben,Lee,205-555-0102,ben at home,North,,yes\n",
        "2,Ben,Lee,205-555-0102,,North,,perhaps\n",
    ],
)
def test_a_bad_row_is_refused(row: str) -> None:
    roster = people.read(HEADER + ANNA + row)
    assert (roster.rows, roster.refused, [person.first_name for person in roster.people]) == (2, 1, ["Anna"])


def test_the_same_person_twice_is_one() -> None:
    roster = people.read(HEADER + ANNA + ANNA)
    assert (roster.repeated, len(roster.people)) == (1, 1)


def test_consent_of_one_who_shares_a_number_is_enough() -> None:
    roster = people.read(HEADER + ANNA + "2,Ben,Lee,205.555.0101,,North,,no\n" + "3,Cleo,Day,205.555.0103,,North,,\n")
    assert roster.textable == ["+12055550101"]
    assert len(roster.numbers) == 2


def test_a_story_is_told_of_people_with_a_phone_of_their_own() -> None:
    roster = people.read(HEADER + ANNA + "2,Ben,Lee,205.555.0101,,North,,yes\n" + "3,Cleo,Day,205.555.0103,,North,,x\n")
    assert [person.name for person in roster.singles] == ["Cleo Day"]


def test_names_of_branches_and_groups_become_ids() -> None:
    text = HEADER + ANNA + "2,Ben,Lee,205.555.0102,,South,Choir,yes\n"
    assert people.branch_names(text) == ["North", "South"]
    assert people.group_names(text) == ["Choir", "Youth"]
    branches = {"North": UUID(int=1), "South": UUID(int=2)}
    groups = {"Choir": UUID(int=3), "Youth": UUID(int=4)}
    header, anna, ben = people.with_ids(text, branches, groups).splitlines()
    assert header == HEADER.strip()
    assert anna == f"1,Anna,Lee,(205) 555-0101,anna@example.org,{UUID(int=1)},{UUID(int=3)};{UUID(int=4)},yes"
    assert ben == f"2,Ben,Lee,205.555.0102,,{UUID(int=2)},{UUID(int=3)},yes"
