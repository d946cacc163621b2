"""Who is whom: one person once, what a change does to a person, and whom a row of an import means."""

import unicodedata
from collections.abc import Iterable
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from koinonia.ids import new_id

Outcome = Literal["created", "updated", "skipped"]
PersonKey = tuple[bytes, str]


class Sealed(msgspec.Struct, frozen=True):
    """A phone or an e-mail as it is stored."""

    index: bytes
    ciphertext: bytes


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """A member as stored."""

    id: UUID
    version: int
    first_name: str
    last_name: str
    phone: Sealed
    email: Sealed | None
    branch_id: UUID
    opted_in: bool
    external_id: str | None
    custom_fields: dict[str, str]

    @property
    def name_key(self) -> str:
        return name_key(self.first_name, self.last_name)

    @property
    def key(self) -> PersonKey:
        """What makes a person the same where no external id says so."""
        return self.phone.index, self.name_key


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """New values of a person; what is unset stays."""

    first_name: str | UnsetType = UNSET
    last_name: str | UnsetType = UNSET
    phone: Sealed | UnsetType = UNSET
    email: Sealed | UnsetType | None = UNSET
    branch_id: UUID | UnsetType = UNSET
    opted_in: bool | UnsetType = UNSET
    external_id: str | UnsetType | None = UNSET
    custom_fields: dict[str, str] | UnsetType = UNSET


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A person as a request or a row tells of them."""

    first_name: str
    last_name: str
    phone: Sealed
    external_id: str | None
    change: Change
    group_ids: tuple[UUID, ...] = ()

    @property
    def key(self) -> PersonKey:
        return self.phone.index, name_key(self.first_name, self.last_name)


def name_key(first_name: str, last_name: str) -> str:
    """Both names in the form in which names are compared: folded, one space between words."""
    return " ".join(unicodedata.normalize("NFC", f"{first_name} {last_name}".casefold()).split())


def changed(person: Person, change: Change) -> Person:
    """The person after a change, one version on; the same object when nothing is different.

    An address that is the same by its index keeps its ciphertext: a new one would look like a change.
    """
    given = {
        name: value
        for name in change.__struct_fields__
        if (value := getattr(change, name)) is not UNSET and _differs(getattr(person, name), value)
    }
    return msgspec.structs.replace(person, version=person.version + 1, **given) if given else person


def _differs(old: object, new: object) -> bool:
    if isinstance(old, Sealed) and isinstance(new, Sealed):
        return old.index != new.index
    return old != new


def new_person(draft: Draft, branch_id: UUID) -> Person:
    """A person who was not there; without a word on consent there is none."""
    blank = Person(
        id=new_id(),
        version=0,
        first_name=draft.first_name,
        last_name=draft.last_name,
        phone=draft.phone,
        email=None,
        branch_id=branch_id,
        opted_in=False,
        external_id=draft.external_id,
        custom_fields={},
    )
    return msgspec.structs.replace(changed(blank, draft.change), version=1)


class Directory:
    """The people whom a batch of drafts can mean: those who are there, and those whom the batch makes.

    A draft means the person with its external id; else the one with its phone and name, unless both have external ids:
    then they are two people.
    """

    def __init__(self, people: Iterable[Person], default_branch_id: UUID, opted_out: Iterable[bytes] = ()) -> None:
        self._by_external_id: dict[str, Person] = {}
        self._by_key: dict[PersonKey, Person] = {}
        self._default_branch_id = default_branch_id
        self._opted_out = frozenset(opted_out)
        self._touched: dict[UUID, Person] = {}
        for person in sorted(people, key=lambda each: each.id, reverse=True):
            self._remember(person)

    def find(self, draft: Draft) -> Person | None:
        """The person whom a draft means."""
        if draft.external_id is None:
            return self._by_key.get(draft.key)
        known = self._by_external_id.get(draft.external_id)
        if known is not None:
            return known
        unnamed = self._by_key.get(draft.key)
        return unnamed if unnamed is not None and unnamed.external_id is None else None

    def take(self, draft: Draft) -> tuple[Outcome, UUID]:
        """Apply an import's row. It gives no consent where the number has opted out, and drops no custom field."""
        known = self.find(draft)
        if known is None:
            person = self._guarded(new_person(draft, self._default_branch_id))
            self._keep(person)
            return "created", person.id
        person = self._guarded(changed(known, _merging(known, draft.change)))
        if not _is_changed(known, person):
            return "skipped", known.id
        self._forget_key(known)
        self._keep(person)
        return "updated", person.id

    @property
    def touched(self) -> list[Person]:
        """Everyone who is new or changed, in the order of their ids."""
        return [self._touched[identifier] for identifier in sorted(self._touched)]

    def _guarded(self, person: Person) -> Person:
        if person.opted_in and person.phone.index in self._opted_out:
            return msgspec.structs.replace(person, opted_in=False)
        return person

    def _keep(self, person: Person) -> None:
        self._touched[person.id] = person
        self._remember(person)

    def _remember(self, person: Person) -> None:
        if person.external_id is not None:
            self._by_external_id[person.external_id] = person
        occupant = self._by_key.get(person.key)
        if occupant is None or occupant.id == person.id or person.external_id is None or occupant.external_id:
            self._by_key[person.key] = person

    def _forget_key(self, person: Person) -> None:
        if self._by_key[person.key].id == person.id:
            del self._by_key[person.key]


def _merging(person: Person, change: Change) -> Change:
    if change.custom_fields is UNSET:
        return change
    return msgspec.structs.replace(change, custom_fields={**person.custom_fields, **change.custom_fields})


def _is_changed(before: Person, after: Person) -> bool:
    return msgspec.structs.replace(after, version=before.version) != before


def is_same(person: Person, other: Person) -> bool:
    """Whether two members would be one person: by external id, else by phone and name, as in ``Directory``."""
    if person.external_id is not None and other.external_id is not None:
        return person.external_id == other.external_id
    return person.key == other.key
