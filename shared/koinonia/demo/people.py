"""The people of the CSV file: what the platform should make of them, worked out from the file alone.

The file has the columns of the import (contract: ``POST /api/members/import``). As a church's own file would, it names
branches and groups; ``with_ids`` puts the platform's ids in their place.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from uuid import UUID

import msgspec

from koinonia.security.phones import PhoneInvalid, normalise

FILE = Path(__file__).with_name("members.csv")
_BRANCH, _GROUPS = "branchId", "groupIds"
_YES = frozenset({"yes", "true", "x"})
_NO = frozenset({"no", ""})


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """One person of the file. ``phone`` is E.164."""

    external_id: str
    first_name: str
    last_name: str
    phone: str
    opted_in: bool

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}"


class Roster(msgspec.Struct, frozen=True, kw_only=True):
    """The file as a whole: ``rows`` = ``len(people)`` + ``repeated`` + ``refused``."""

    rows: int
    refused: int  # no valid phone, no first name, …
    repeated: int  # the same person again
    people: tuple[Person, ...]

    @property
    def numbers(self) -> dict[str, list[Person]]:
        """Who shares a number; a number gets one text."""
        sharing: dict[str, list[Person]] = {}
        for person in self.people:
            sharing.setdefault(person.phone, []).append(person)
        return sharing

    @property
    def textable(self) -> list[str]:
        """The numbers that may be texted: consent of one who shares a number is enough."""
        return [phone for phone, people in self.numbers.items() if any(person.opted_in for person in people)]

    @property
    def singles(self) -> list[Person]:
        """Those who consented and share their number with nobody."""
        return [people[0] for people in self.numbers.values() if len(people) == 1 and people[0].opted_in]


def read(text: str) -> Roster:
    """Read the file."""
    rows = list(csv.DictReader(io.StringIO(text)))
    good = [person for person in map(_person, rows) if person is not None]
    people = {person.external_id: person for person in good}
    return Roster(
        rows=len(rows), refused=len(rows) - len(good), repeated=len(good) - len(people), people=tuple(people.values())
    )


def branch_names(text: str) -> list[str]:
    """The branches that the file names, each once."""
    return list(dict.fromkeys(row[_BRANCH] for row in csv.DictReader(io.StringIO(text))))


def group_names(text: str) -> list[str]:
    """The groups that the file names, each once."""
    cells = (row[_GROUPS] for row in csv.DictReader(io.StringIO(text)))
    return list(dict.fromkeys(name for cell in cells for name in _parts(cell)))


def with_ids(text: str, branches: Mapping[str, UUID], groups: Mapping[str, UUID]) -> str:
    """The file with ids in place of the names of branches and groups."""
    reader = csv.DictReader(io.StringIO(text))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, reader.fieldnames or [])
    writer.writeheader()
    for row in reader:
        named = {_BRANCH: str(branches[row[_BRANCH]]), _GROUPS: ";".join(_ids(_parts(row[_GROUPS]), groups))}
        writer.writerow({**row, **named})
    return out.getvalue()


def _ids(names: Iterable[str], ids: Mapping[str, UUID]) -> list[str]:
    return [str(ids[name]) for name in names]


def _parts(cell: str) -> list[str]:
    return [part.strip() for part in cell.split(";") if part.strip()]


def _person(row: Mapping[str, str]) -> Person | None:
    """The person of a row; None for a row that a careful clerk would send back."""
    consent, email = row["optInSms"].casefold(), row["email"]
    if not row["firstName"] or consent not in _YES | _NO or (email and "@" not in email):
        return None
    try:
        phone = normalise(row["phone"])
    except PhoneInvalid:
        return None
    return Person(
        external_id=row["externalId"],
        first_name=row["firstName"],
        last_name=row["lastName"],
        phone=phone,
        opted_in=consent in _YES,
    )
