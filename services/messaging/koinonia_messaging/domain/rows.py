"""Rows of an import: from a spreadsheet or JSON to drafts of people, and what is wrong with a bad one.

An error names row and field, never what stood there.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from koinonia import validation
from koinonia.api.members import IMPORT_ROWS, ImportRowError, MemberRequest
from koinonia.errors import FieldError, ValidationFailed
from koinonia.security import Keys
from koinonia.security.phones import PhoneInvalid, normalise
from koinonia.security.redaction import redact
from koinonia_messaging.domain.people import Change, Draft, Sealed

Row = tuple[int, object]
CUSTOM = "customFields."
UNREADABLE = "The row cannot be read"

_FIELDS = {field.encode_name: field for field in msgspec.structs.fields(MemberRequest)}
_TRUE = frozenset({"true", "yes", "y", "1", "x"})
_FALSE = frozenset({"false", "no", "n", "0"})
_NUMBER = re.compile(r"[+-]?[\d\s.,()/-]+")
_FORMULA_STARTS = "=+-@\t\r"


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


def csv_rows(text: str) -> Iterator[Row]:
    """The rows of a CSV file with a header, counted from 1; empty cells count as not there, blank rows are passed over.

    Raises:
        ValidationFailed: the header lacks a column, has one twice or one that nobody knows, or there are too many rows.
    """
    reader = csv.reader(io.StringIO(text, newline=""))
    header = _header(next(_records(reader), None))
    for number, cells in enumerate(_records(reader), start=1):
        if number > IMPORT_ROWS:
            raise ValidationFailed.field("body", f"At most {IMPORT_ROWS} rows")
        if cells is None or len(cells) > len(header):
            yield number, None
        elif any(cell.strip() for cell in cells):
            yield number, _typed(header, cells)


def read(rows: Iterable[Row], context: RowContext) -> ReadRows:
    """Judge rows, each by itself. It encrypts: some 60 µs a row, best done off the event loop."""
    result = ReadRows([], [])
    for number, raw in rows:
        try:
            result.drafts.append(_draft(raw, context))
        except ValidationFailed as invalid:
            result.errors.extend(
                # The name of a field that nobody knows is the client's text, and the errors are stored.
                ImportRowError(row=number, field=redact(detail.field), message=detail.message)
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


def harmless(text: str) -> str:
    """The text without what would make a spreadsheet run it as a formula when it is exported again; numbers stay.

    Source: OWASP, "CSV Injection".
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return text
    return text.lstrip(_FORMULA_STARTS + " ")


def _records(reader: Iterator[list[str]]) -> Iterator[list[str] | None]:
    """The records; None for one that cannot be read (a cell beyond the reader's limit)."""
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield None


def _header(cells: Sequence[str] | None) -> list[str]:
    names = [cell.strip() for cell in cells or ()]
    known = [name in _FIELDS and name != "customFields" for name in names]
    problems = [
        FieldError(name[:64] or "header", "Unknown column")
        for name, is_known in zip(names, known, strict=True)
        if not is_known and not (name.startswith(CUSTOM) and 0 < len(name) - len(CUSTOM) <= 64)
    ]
    problems += [FieldError(name[:64], "Column given twice") for name in sorted(set(names)) if names.count(name) > 1]
    problems += [FieldError(name, "Column missing") for name in ("firstName", "phone") if name not in names]
    if problems:
        raise ValidationFailed(details=problems[:50])
    return names


def _typed(header: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    """The cells as the values that a JSON row would have."""
    row: dict[str, Any] = {}
    for name, cell in zip(header, (cell.strip() for cell in cells), strict=False):
        if not cell:
            continue
        if name.startswith(CUSTOM):
            row.setdefault("customFields", {})[name.removeprefix(CUSTOM)] = cell
        elif name == "groupIds":
            row[name] = [part.strip() for part in cell.split(";") if part.strip()]
        elif name == "optInSms":
            folded = cell.casefold()
            row[name] = True if folded in _TRUE else False if folded in _FALSE else cell
        else:
            row[name] = cell
    return row


def _draft(raw: object, context: RowContext) -> Draft:
    if not isinstance(raw, dict):
        raise ValidationFailed.field("row", UNREADABLE)
    given = {name: _defused(name, value) for name, value in raw.items()}
    request: MemberRequest = validation.convert(given, MemberRequest)
    return draft_of(request, context, given=given.keys())


def draft_of(request: MemberRequest, context: RowContext, given: Iterable[str] = _FIELDS) -> Draft:
    """The draft of a valid request; fields that were not given change nothing in a person who is there.

    Raises:
        ValidationFailed: the phone is none, or a branch or group is not the church's.
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
    )


def _defused(name: str, value: Any) -> Any:
    if name in {"firstName", "lastName", "externalId"} and isinstance(value, str):
        return harmless(value)
    if name == "customFields" and isinstance(value, dict):
        return {key: harmless(each) if isinstance(each, str) else each for key, each in value.items()}
    return value
