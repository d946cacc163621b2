"""Members, as rows. Whoever writes any has called ``lock`` first: one person once is decided by reading."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from koinonia.db import Transaction, statement
from koinonia.events.messaging import MemberState
from koinonia_messaging.domain.people import Merged, Person, Sealed


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a church's people can belong to."""

    region: str
    default_branch_id: UUID
    branch_ids: frozenset[UUID]
    group_ids: frozenset[UUID]


class MemberRow(msgspec.Struct, frozen=True, kw_only=True):
    """A member as people see them, addresses still sealed."""

    person: Person
    name_words: str  # folded, as they are searched and sorted
    may_be_texted: bool
    group_ids: list[UUID]
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


_LOCK = statement(
    "members.lock",
    """
    SELECT
        pg_advisory_xact_lock(hashtextextended('members ' || $1, 0)),
        (SELECT region FROM churches) AS region,
        (SELECT id FROM branches WHERE is_default) AS default_branch_id,
        ARRAY(SELECT id FROM branches) AS branch_ids,
        ARRAY(SELECT id FROM groups) AS group_ids
    """,
)


async def lock(tx: Transaction) -> Surroundings | None:
    """Let nobody else write this church's members until the transaction ends; None: the church is not known yet."""
    row = await tx.fetch_row(_LOCK, str(tx.tenant))
    if row is None or row["default_branch_id"] is None:
        return None
    return Surroundings(
        region=row["region"],
        default_branch_id=row["default_branch_id"],
        branch_ids=frozenset(row["branch_ids"]),
        group_ids=frozenset(row["group_ids"]),
    )


PERSON = """
    members.id, members.version, members.first_name, members.last_name, members.phone_index, members.phone_ciphertext,
    members.email_index, members.email_ciphertext, members.branch_id, members.opted_in, members.external_id,
    members.custom_fields
"""

_FIND_ALIKE = statement(
    "members.find_alike",
    f"""
    SELECT {PERSON} FROM members WHERE external_id = ANY($1::text[]) AND deleted_at IS NULL
    UNION
    SELECT {PERSON} FROM members WHERE phone_index = ANY($2::bytea[]) AND deleted_at IS NULL
    """,
)


async def find_alike(tx: Transaction, external_ids: Sequence[str], phone_indexes: Sequence[bytes]) -> list[Person]:
    """Everyone with one of the external ids or one of the phones."""
    return [person_of(row) for row in await tx.fetch(_FIND_ALIKE, external_ids, phone_indexes)]


_FIND_MERGED = statement(
    "members.find_merged",
    f"""
    WITH gone AS (
        SELECT id FROM members WHERE external_id = ANY($1::text[]) AND merged_into IS NOT NULL
        UNION
        SELECT id FROM members WHERE phone_index = ANY($2::bytea[]) AND merged_into IS NOT NULL
    )
    SELECT merged.external_id AS old_external_id, merged.phone_index AS old_phone, merged.name_key AS old_name, {PERSON}
    FROM gone
    JOIN members AS merged USING (id)
    JOIN members ON members.id = merged.merged_into AND members.deleted_at IS NULL
    ORDER BY merged.id DESC
    """,
)


async def find_merged(tx: Transaction, external_ids: Sequence[str], phone_indexes: Sequence[bytes]) -> list[Merged]:
    """The merged records with one of the external ids or one of the phones, and who stands for them; oldest last."""
    rows = await tx.fetch(_FIND_MERGED, external_ids, phone_indexes)
    return [
        Merged(external_id=row["old_external_id"], key=(row["old_phone"], row["old_name"]), kept=person_of(row))
        for row in rows
    ]


_FIND_PERSONS = statement(
    "members.find_persons",
    f"SELECT {PERSON} FROM members WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL ORDER BY id",
)


async def find_persons(tx: Transaction, member_ids: Sequence[UUID]) -> list[Person]:
    """Those of the members who are there."""
    return [person_of(row) for row in await tx.fetch(_FIND_PERSONS, member_ids)]


_SAVE = statement(
    "members.save",
    """
    INSERT INTO members (
        id, church_id, version, first_name, last_name, name_key, phone_ciphertext, phone_index, email_ciphertext,
        email_index, branch_id, opted_in, external_id, custom_fields, created_at, updated_at
    )
    SELECT
        id, $15, version, first_name, last_name, name_key, phone_ciphertext, phone_index, email_ciphertext,
        email_index, branch_id, opted_in, external_id, custom_fields, $14, $14
    FROM unnest(
        $1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::bytea[], $9::bytea[],
        $10::uuid[], $11::bool[], $12::text[], $13::jsonb[]
    ) AS person (
        id, version, first_name, last_name, name_key, phone_ciphertext, phone_index, email_ciphertext, email_index,
        branch_id, opted_in, external_id, custom_fields
    )
    ON CONFLICT (id) DO UPDATE
    SET version = excluded.version,
        first_name = excluded.first_name,
        last_name = excluded.last_name,
        name_key = excluded.name_key,
        phone_ciphertext = excluded.phone_ciphertext,
        phone_index = excluded.phone_index,
        email_ciphertext = excluded.email_ciphertext,
        email_index = excluded.email_index,
        branch_id = excluded.branch_id,
        opted_in = excluded.opted_in,
        external_id = excluded.external_id,
        custom_fields = excluded.custom_fields,
        updated_at = excluded.updated_at
    """,
)


async def save(tx: Transaction, people: Sequence[Person], at: datetime) -> None:
    """Write new and changed people, any number in one statement."""
    await tx.execute(
        _SAVE,
        [each.id for each in people],
        [each.version for each in people],
        [each.first_name for each in people],
        [each.last_name for each in people],
        [each.name_key for each in people],
        [each.phone.ciphertext for each in people],
        [each.phone.index for each in people],
        [each.email.ciphertext if each.email else None for each in people],
        [each.email.index if each.email else None for each in people],
        [each.branch_id for each in people],
        [each.opted_in for each in people],
        [each.external_id for each in people],
        [msgspec.json.encode(each.custom_fields).decode() for each in people],
        at,
        tx.tenant,
    )


_DELETE = statement(
    "members.delete",
    f"""
    UPDATE members
    SET deleted_at = $2, updated_at = $2, version = version + 1, left_groups = ARRAY(
        SELECT group_id FROM group_members WHERE group_members.member_id = members.id
    )
    WHERE id = $1 AND deleted_at IS NULL
    RETURNING {PERSON}
    """,
)


async def delete(tx: Transaction, member_id: UUID, at: datetime) -> Person | None:
    """Mark a member as deleted, and note the groups it leaves; None when there is none."""
    row = await tx.fetch_row(_DELETE, member_id, at)
    return None if row is None else person_of(row)


_FIND_DELETED = statement(
    "members.find_deleted",
    f"SELECT {PERSON}, left_groups, merged_into FROM members WHERE id = $1 AND deleted_at IS NOT NULL",
)


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """A deleted member."""

    person: Person
    left_groups: list[UUID]
    merged_into: UUID | None


async def find_deleted(tx: Transaction, member_id: UUID) -> Deleted | None:
    row = await tx.fetch_row(_FIND_DELETED, member_id)
    if row is None:
        return None
    return Deleted(person=person_of(row), left_groups=row["left_groups"], merged_into=row["merged_into"])


_RESTORE = statement(
    "members.restore",
    f"""
    UPDATE members
    SET deleted_at = NULL, updated_at = $2, version = version + 1, left_groups = '{{}}', opted_in = $3
    WHERE id = $1 AND deleted_at IS NOT NULL AND merged_into IS NULL
    RETURNING {PERSON}
    """,
)


async def restore(tx: Transaction, member_id: UUID, at: datetime, *, opted_in: bool) -> Person:
    """Take a deleted member, who is one, back; without groups so far."""
    row = await tx.fetch_row(_RESTORE, member_id, at, opted_in)
    if row is None:
        raise LookupError(member_id)
    return person_of(row)


MAY_BE_TEXTED = """
    members.opted_in AND NOT EXISTS (
        SELECT FROM suppressions
        WHERE suppressions.phone_index = members.phone_index AND suppressions.suppressed
    )
"""
MEMBER_ROW = f"""
    {PERSON}, members.name_words, members.created_at, members.updated_at, members.deleted_at,
    {MAY_BE_TEXTED} AS may_be_texted,
    ARRAY(
        SELECT group_id FROM group_members WHERE group_members.member_id = members.id ORDER BY group_id
    ) AS group_ids
"""

_FIND = statement(
    "members.find",
    f"""
    SELECT {MEMBER_ROW}
    FROM members
    WHERE id = coalesce((SELECT merged_into FROM members AS merged WHERE merged.id = $1), $1) AND deleted_at IS NULL
    """,
)


async def find(tx: Transaction, member_id: UUID) -> MemberRow | None:
    """One member; of a merged one the record that stands for it."""
    row = await tx.fetch_row(_FIND, member_id)
    return None if row is None else member_row(row)


_FIND_ROWS = statement("members.find_rows", f"SELECT {MEMBER_ROW} FROM members WHERE id = ANY ($1::uuid[])")


async def find_rows(tx: Transaction, member_ids: Sequence[UUID]) -> dict[UUID, MemberRow]:
    """Members by their ids, deleted ones too."""
    rows = [member_row(row) for row in await tx.fetch(_FIND_ROWS, member_ids)]
    return {row.person.id: row for row in rows}


def state_of(person: Person, *, deleted: bool = False, merged_into: UUID | None = None) -> MemberState:
    """A person as other services learn of them."""
    return MemberState(
        member_id=person.id,
        version=person.version,
        first_name=person.first_name,
        last_name=person.last_name,
        phone_index=person.phone.index,
        phone_ciphertext=person.phone.ciphertext,
        branch_id=person.branch_id,
        opted_in=person.opted_in,
        deleted=deleted,
        merged_into=merged_into,
    )


def person_of(row: asyncpg.Record) -> Person:
    """A row of ``PERSON``."""
    email_index = row["email_index"]
    return Person(
        id=row["id"],
        version=row["version"],
        first_name=row["first_name"],
        last_name=row["last_name"],
        phone=Sealed(row["phone_index"], row["phone_ciphertext"]),
        email=None if email_index is None else Sealed(email_index, row["email_ciphertext"]),
        branch_id=row["branch_id"],
        opted_in=row["opted_in"],
        external_id=row["external_id"],
        custom_fields=msgspec.json.decode(row["custom_fields"], type=dict[str, str]),
    )


def member_row(row: asyncpg.Record) -> MemberRow:
    """A row of ``MEMBER_ROW``."""
    return MemberRow(
        person=person_of(row),
        name_words=row["name_words"],
        may_be_texted=row["may_be_texted"],
        group_ids=row["group_ids"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deleted_at=row["deleted_at"],
    )
