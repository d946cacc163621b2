"""The header of a table: which field each column means, and a row's cells as the values that a JSON row would have."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from koinonia.api.members import MemberRequest
from koinonia.cells import unguarded
from koinonia.errors import FieldError, ValidationFailed
from koinonia.security.redaction import redact

CUSTOM = "customFields."

_LONGEST_NAME = 64
_MOST_PROBLEMS = 50
_REQUIRED = ("firstName", "phone")
_FIELDS = tuple(
    field.encode_name for field in msgspec.structs.fields(MemberRequest) if field.encode_name != "customFields"
)
_ALIASES = {
    "firstName": "first given givenname forename christianname",
    "lastName": "last surname family familyname",
    "phone": "phonenumber mobile mobilephone mobilenumber mobileno cell cellphone cellnumber telephone tel "
    "telephonenumber handy",
    "email": "emailaddress mail mailaddress",
    "branchId": "",
    "groupIds": "",
    "optInSms": "optin smsoptin optedin consent smsconsent textconsent smspermission",
    "consentSource": "optinsource sourceofconsent proofofconsent consentproof",
    "externalId": "id memberid personid customerid recordid",
}
_MEANT = {alias: field for field in _FIELDS for alias in (field.casefold(), *_ALIASES[field].split())}
_FORGOTTEN = re.compile(r"[\W_]+")
_TRUE = frozenset({"true", "yes", "y", "1", "x", "t", "on"})
_FALSE = frozenset({"false", "no", "n", "0", "f", "off"})


class Columns(msgspec.Struct, frozen=True):
    """The columns of a table: what the header calls them, and the field each one means; None: it is left out."""

    names: tuple[str, ...]
    fields: tuple[str | None, ...]

    @property
    def mapping(self) -> dict[str, str | None]:
        """By the header's name: the form in which a mapping is shown and given."""
        return {name: field for name, field in zip(self.names, self.fields, strict=True) if name}


def meant(name: str) -> str | None:
    """The field that a column's name means: case, spaces and signs do not count; None: nobody knows.

    ``First Name``, ``first_name`` and ``Given name`` are all ``firstName``.
    """
    if name.casefold().startswith(CUSTOM.casefold()):
        own = name[len(CUSTOM) :].strip()
        return f"{CUSTOM}{own}" if 0 < len(own) <= _LONGEST_NAME else None
    return _MEANT.get(_FORGOTTEN.sub("", unicodedata.normalize("NFKC", name).casefold()))


def match(cells: Sequence[str], given: Mapping[str, str | None], *, lenient: bool = False) -> Columns:
    """What each column means: what ``given`` says of it, else what its name says.

    ``lenient``, for showing what would be used: what nobody knows, and the second of two for one field, are left out.

    Raises:
        ValidationFailed: ``given`` names no column or no field; and unless lenient: a column is unknown, there twice or
            missing.
    """
    names = [unguarded(cell.strip()) for cell in cells]
    while names and not names[-1]:
        names.pop()  # spreadsheets write empty columns at the end
    problems = _problems_of(given, names)
    if problems:
        raise ValidationFailed(details=problems[:_MOST_PROBLEMS])
    said = {field for field in given.values() if field is not None}
    fields: list[str | None] = []
    for name in names:
        field = given[name] if name in given else meant(name)
        if (name not in given and field in said) or (lenient and field in fields):
            field = None
        fields.append(field)
    if not lenient and (problems := list(_faults(names, fields, given))):
        raise ValidationFailed(details=problems[:_MOST_PROBLEMS])
    return Columns(tuple(names), tuple(fields))


def typed(columns: Columns, cells: Iterable[str]) -> dict[str, Any]:
    """The cells of a row as the values that a JSON row would have; an empty cell says nothing."""
    row: dict[str, Any] = {}
    for field, cell in zip(columns.fields, (unguarded(cell.strip()) for cell in cells), strict=False):
        if field is None or not cell:
            continue
        if field.startswith(CUSTOM):
            row.setdefault("customFields", {})[field.removeprefix(CUSTOM)] = cell
        elif field == "groupIds":
            row[field] = [part.strip() for part in cell.split(";") if part.strip()]
        elif field == "optInSms":
            folded = cell.casefold()
            row[field] = True if folded in _TRUE else False if folded in _FALSE else cell
        else:
            row[field] = cell
    return row


def known_count(names: Iterable[str]) -> int:
    """How many of the names mean a field."""
    return sum(meant(name.strip()) is not None for name in names)


def _problems_of(given: Mapping[str, str | None], names: Sequence[str]) -> list[FieldError]:
    problems = [FieldError("mapping", "Names a column that is not there") for name in given if name not in names]
    fields = [field for field in given.values() if field is not None]
    problems += [FieldError("mapping", "Names no field") for field in fields if not _is_field(field)]
    if len(fields) != len(set(fields)):
        problems.append(FieldError("mapping", "Names a field twice"))
    return problems


def _is_field(field: str) -> bool:
    return field in _FIELDS or (field.startswith(CUSTOM) and meant(field) == field)


def _faults(
    names: Sequence[str], fields: Sequence[str | None], given: Mapping[str, str | None]
) -> Iterable[FieldError]:
    for name, field in zip(names, fields, strict=True):
        if field is None and name not in given:
            # A file without a header begins with a person.
            yield FieldError(redact(name[:_LONGEST_NAME]) or "header", "Unknown column: say what it is by mapping")
    for field in sorted({each for each in fields if each is not None}):
        if fields.count(field) > 1:
            yield FieldError(redact(field), "Column given twice")
    for field in _REQUIRED:
        if field not in fields:
            yield FieldError(field, "Column missing")
