"""What becomes of an archived copy when a person, a phone or a church is erased; the same as of a stored one.

A row is as its archive holds it: a mapping of columns to JSON values, binary ones as ``\\x`` and hexadecimal digits.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from koinonia.ids import id_time

ERASED = "[deleted]"
"""What stands in place of a text, and, encrypted, in place of a phone."""

Row = dict[str, Any]
Change = Callable[[Row], Row | None]
"""Answers the row as it shall be, the same one where it stays, or None where it goes."""


def without_member(church_id: UUID, members: Collection[UUID], nobody: bytes) -> Change:
    """Blank the copies that name a member by any of its records. Who shares the phone keeps the copy, without its text.

    ``nobody``: the ciphertext that stands in place of a phone's.
    """
    church, records = str(church_id), {str(member_id) for member_id in members}

    def change(row: Row) -> Row | None:
        if row["church_id"] != church or records.isdisjoint(row["member_ids"]):
            return row
        others = [each for each in row["member_ids"] if each not in records]
        return {**row, **_NO_TEXT, "member_ids": others} if others else _blank(row, nobody)

    return change


def without_phones(church_id: UUID, phones: Collection[bytes], nobody: bytes) -> Change:
    """Blank the copies that went to these phones, by their blind indexes."""
    church, indexes = str(church_id), {f"\\x{phone.hex()}" for phone in phones}

    def change(row: Row) -> Row | None:
        return _blank(row, nobody) if row["church_id"] == church and row["phone_index"] in indexes else row

    return change


def without_churches(church_ids: Collection[UUID], before: datetime) -> Change:
    """Leave out churches' copies that are older than a time."""
    churches = {str(church_id) for church_id in church_ids}

    def change(row: Row) -> Row | None:
        return None if row["church_id"] in churches and id_time(UUID(row["id"])) < before else row

    return change


_NO_TEXT: Row = {"text": ERASED, "media_urls": []}


def _blank(row: Row, nobody: bytes) -> Row:
    ciphertext = f"\\x{nobody.hex()}"
    blank: Row = {"member_ids": [], "phone_index": "\\x", "phone_ciphertext": ciphertext, "carrier_id": None}
    return {**row, **_NO_TEXT, **blank}
