"""Who is whom: one person once, what a change does to a person, and whom a row of an import means."""

import unicodedata
from collections.abc import Iterable, Sequence
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
    consent_source: str | None = None

    @property
    def key(self) -> PersonKey:
        return self.phone.index, name_key(self.first_name, self.last_name)


class Consent(msgspec.Struct, frozen=True):
    """A person who came to consent, and where they did, as the church says."""

    person: Person
    source: str


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """A record that was merged: what a file may still call it, and the record that stands for it."""

    external_id: str | None
    key: PersonKey
    kept: Person


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


def merged(kept: Person, other: Person, *, is_stopped: bool) -> Person:
    """The kept record of a person with what only the other one knew. It consents only where both did.

    ``is_stopped``: the other's number has opted out. On another number that holds for the kept one's, too; on the same
    one it holds by itself, until the person ends it.

    A name and a phone are what the kept one says, so that it is nobody else than before.
    """
    change = Change(
        email=kept.email or other.email,
        external_id=kept.external_id or other.external_id,
        custom_fields={**other.custom_fields, **kept.custom_fields},
        opted_in=kept.opted_in and other.opted_in and not (is_stopped and kept.phone.index != other.phone.index),
    )
    return changed(kept, change)


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
    then they are two people. Where nobody is there whom it means, it means the record that such a one was merged into.
    """

    def __init__(
        self,
        people: Iterable[Person],
        default_branch_id: UUID,
        opted_out: Iterable[bytes] = (),
        merged_ones: Sequence[Merged] = (),
    ) -> None:
        self._by_external_id: dict[str, Person] = {}
        self._by_key: dict[PersonKey, Person] = {}
        self._default_branch_id = default_branch_id
        self._opted_out = frozenset(opted_out)
        self._touched: dict[UUID, Person] = {}
        self._sources: dict[UUID, str] = {}
        self._kept = {each.kept.id: each.kept for each in merged_ones}
        self._merged_by_external_id = {each.external_id: each.kept.id for each in merged_ones if each.external_id}
        self._merged_by_key = {
            each.key: each for each in sorted(merged_ones, key=lambda each: each.external_id is None)
        }
        everyone = {**self._kept, **{each.id: each for each in people}}
        for person in sorted(everyone.values(), key=lambda each: each.id, reverse=True):
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
        known, change = self.find(draft), draft.change
        if known is None and (known := self._find_kept(draft)) is not None:
            change = _adding(known, change)
        if known is None:
            person = self._guarded(new_person(draft, self._default_branch_id))
            self._keep(person)
            self._note_source(draft, None, person)
            return "created", person.id
        person = self._guarded(changed(known, _merging(known, change)))
        if not _is_changed(known, person):
            return "skipped", known.id
        self._forget_key(known)
        self._keep(person)
        self._note_source(draft, known, person)
        return "updated", person.id

    def _find_kept(self, draft: Draft) -> Person | None:
        """The record that stands for the one whom a draft means, as it is by now."""
        kept_id = self._merged_by_external_id.get(draft.external_id or "")
        if kept_id is not None:
            return self._kept[kept_id]
        alias = self._merged_by_key.get(draft.key)
        if alias is None:
            return None
        kept = self._kept[alias.kept.id]
        is_another = draft.external_id is not None and (alias.external_id or kept.external_id) is not None
        return None if is_another else kept

    @property
    def touched(self) -> list[Person]:
        """Everyone who is new or changed, in the order of their ids."""
        return [self._touched[identifier] for identifier in sorted(self._touched)]

    @property
    def consents(self) -> list[Consent]:
        """Those of the touched who have come to consent and of whom it was said where."""
        return [Consent(each, self._sources[each.id]) for each in self.touched if each.id in self._sources]

    def _note_source(self, draft: Draft, before: Person | None, after: Person) -> None:
        if not after.opted_in:
            self._sources.pop(after.id, None)  # an earlier row of the same batch said otherwise
        elif draft.consent_source is not None and comes_to_consent(before, after):
            self._sources[after.id] = draft.consent_source

    def _guarded(self, person: Person) -> Person:
        if person.opted_in and person.phone.index in self._opted_out:
            return msgspec.structs.replace(person, opted_in=False)
        return person

    def _keep(self, person: Person) -> None:
        self._touched[person.id] = person
        if person.id in self._kept:
            self._kept[person.id] = person
        self._remember(person)

    def _remember(self, person: Person) -> None:
        if person.external_id is not None:
            self._by_external_id[person.external_id] = person
        occupant = self._by_key.get(person.key)
        if occupant is None or occupant.id == person.id or person.external_id is None or occupant.external_id:
            self._by_key[person.key] = person

    def _forget_key(self, person: Person) -> None:
        occupant = self._by_key.get(person.key)  # none where one with the same key has left it
        if occupant is not None and occupant.id == person.id:
            del self._by_key[person.key]


def _merging(person: Person, change: Change) -> Change:
    if change.custom_fields is UNSET:
        return change
    return msgspec.structs.replace(change, custom_fields={**person.custom_fields, **change.custom_fields})


def _adding(kept: Person, change: Change) -> Change:
    """What a row of a merged record may do to the kept one: what the merge did, so that each import does it alike."""
    return Change(
        email=change.email if kept.email is None else UNSET,
        external_id=change.external_id if kept.external_id is None else UNSET,
        opted_in=UNSET if change.opted_in is not False else False,
        custom_fields=UNSET if change.custom_fields is UNSET else {**change.custom_fields, **kept.custom_fields},
    )


def _is_changed(before: Person, after: Person) -> bool:
    return msgspec.structs.replace(after, version=before.version) != before


def comes_to_consent(before: Person | None, after: Person) -> bool:
    """Whether a person consents who was not there, or did not, before."""
    return after.opted_in and (before is None or not before.opted_in)


def is_same(person: Person, other: Person) -> bool:
    """Whether two members would be one person: by external id, else by phone and name, as in ``Directory``."""
    if person.external_id is not None and other.external_id is not None:
        return person.external_id == other.external_id
    return person.key == other.key
