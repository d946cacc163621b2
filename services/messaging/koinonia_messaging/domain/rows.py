"""Rows of an import: from a spreadsheet or JSON to drafts of people, and what is wrong with a bad one.

An error names row and field, never what stood there.
"""

import re
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from koinonia import validation
from koinonia.api.members import ImportRowError, MemberRequest
from koinonia.errors import ValidationFailed
from koinonia.security import Keys
from koinonia.security.phones import PhoneInvalid, has_phone, normalise
from koinonia.security.redaction import redact
from koinonia_messaging.domain.formulas import harmless
from koinonia_messaging.domain.people import Change, Draft, Sealed

Row = tuple[int, object]
"""A row's number, counted from 1, and what stands in it: ``Cells``, or what a JSON row should be."""
UNREADABLE = "The row cannot be read"
# 2024-05-12, 12.05.2024, 5/12/2024, 20240512: in some regions numbers look like these.
_DATE = re.compile(
    r"(?<!\d)(?<!\d[-./])(?:(?:19|20)\d\d([-./]?)\d\d?\1\d\d?|\d\d?([-./])\d\d?\2(?:19|20)\d\d)(?![-./]?\d)"
)

_FIELDS = {field.encode_name: field for field in msgspec.structs.fields(MemberRequest)}


class Cells(msgspec.Struct, frozen=True, array_like=True):
    """A row of a table: its line in the file, and its values; without values, why it cannot be read."""

    line: int
    values: dict[str, Any] | None
    reason: str = UNREADABLE


class RowContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a row is judged by."""

    keys: Keys
    church_id: UUID
    region: str
    branch_ids: frozenset[UUID]
    group_ids: frozenset[UUID]
    all_groups: tuple[UUID, ...] = ()  # groups that every row joins


class ReadRows(msgspec.Struct, frozen=True):
    """What some rows came to."""

    drafts: list[Draft]
    errors: list[ImportRowError]


def read(rows: Iterable[Row], context: RowContext) -> ReadRows:
    """Judge rows, each by itself. It encrypts: some 60 µs a row, best done off the event loop."""
    result = ReadRows([], [])
    for number, raw in rows:
        try:
            result.drafts.append(_draft(raw, context))
        except ValidationFailed as invalid:
            line = raw.line if isinstance(raw, Cells) else None
            result.errors.extend(
                # The name of a field that nobody knows is the client's text, and the errors are stored.
                ImportRowError(row=number, field=redact(detail.field), message=detail.message, line=line)
                for detail in invalid.details
            )
    return result


def seal_phone(text: str, keys: Keys, church_id: UUID, region: str) -> Sealed:
    """A phone as it is stored.

    Raises:
        ValidationFailed: it is none.
    """
    try:
        phone = normalise(text, region)
    except PhoneInvalid:
        raise ValidationFailed.field("phone", "No valid phone number") from None
    return Sealed(keys.index(phone, church_id, "phone"), keys.encrypt(phone, church_id, "phone"))


def seal_email(text: str, keys: Keys, church_id: UUID) -> Sealed:
    """An e-mail as it is stored."""
    return Sealed(keys.index(text, church_id, "email"), keys.encrypt(text.strip(), church_id, "email"))


def _draft(raw: object, context: RowContext) -> Draft:
    if isinstance(raw, Cells):
        if raw.values is None:
            raise ValidationFailed.field("row", raw.reason)
        raw = raw.values
    if not isinstance(raw, dict):
        raise ValidationFailed.field("row", UNREADABLE)
    given = {name: _defused(name, value) for name, value in raw.items()}
    request: MemberRequest = validation.convert(given, MemberRequest)
    return draft_of(request, context, given=given.keys())


def checked_source(text: str | None, region: str) -> str | None:
    """Where consent was given, as it may be kept: in plain, since it names nobody.

    ``region`` says whose national form of a phone is looked for, beside the international one. A date is none.

    Raises:
        ValidationFailed: there is a phone number or an e-mail address in it.
    """
    if text is not None and (redact(text) != text or has_phone(_DATE.sub(" ", text), region)):
        raise ValidationFailed.field("consentSource", "Must hold no phone number and no e-mail address")
    return None if text is None else text.strip()


def draft_of(request: MemberRequest, context: RowContext, given: Iterable[str] = _FIELDS) -> Draft:
    """The draft of a valid request; fields that were not given change nothing in a person who is there.

    Raises:
        ValidationFailed: the phone is none, a branch or group is not the church's, or the source of consent names a
            person.
    """
    named = frozenset(given)
    if request.branch_id is not None and request.branch_id not in context.branch_ids:
        raise ValidationFailed.field("branchId", "No such branch")
    if not context.group_ids.issuperset(request.group_ids):
        raise ValidationFailed.field("groupIds", "No such group")
    phone = seal_phone(request.phone, context.keys, context.church_id, context.region)
    email = seal_email(request.email, context.keys, context.church_id) if request.email else None
    return Draft(
        first_name=request.first_name.strip(),
        last_name=request.last_name.strip(),
        phone=phone,
        external_id=request.external_id,
        change=Change(
            first_name=request.first_name.strip(),
            last_name=request.last_name.strip() if "lastName" in named else UNSET,
            phone=phone,
            email=email if "email" in named else UNSET,
            branch_id=UNSET if request.branch_id is None else request.branch_id,
            opted_in=request.opt_in_sms if "optInSms" in named else UNSET,
            external_id=UNSET if request.external_id is None else request.external_id,
            custom_fields=request.custom_fields if "customFields" in named else UNSET,
        ),
        group_ids=tuple(dict.fromkeys((*context.all_groups, *request.group_ids))),
        consent_source=checked_source(request.consent_source, context.region),
    )


def _defused(name: str, value: Any) -> Any:
    if name in {"firstName", "lastName", "externalId"} and isinstance(value, str):
        return harmless(value)
    if name == "customFields" and isinstance(value, dict):
        return {key: harmless(each) if isinstance(each, str) else each for key, each in value.items()}
    return value
