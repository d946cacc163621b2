"""Who gets a message: one recipient per number, the names of a family together."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Literal
from uuid import UUID

import msgspec

from koinonia import sms
from koinonia.api.messages import TargetType
from koinonia.events.messaging import ResolvedRecipient
from koinonia.ids import derived_id

LeftOut = Literal["no_consent", "suppressed"]
TOGETHER = " & "  # between the names of people who share a number


class Excluded(msgspec.Struct, frozen=True):
    """Who gets no text, though the target names them: these members, and those of these groups and branches.

    Their numbers are excluded: also a family member with the same phone gets none on it.
    """

    member_ids: tuple[UUID, ...] = ()
    group_ids: tuple[UUID, ...] = ()
    branch_ids: tuple[UUID, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.member_ids or self.group_ids or self.branch_ids)


NOBODY = Excluded()
TargetKind = TargetType | Literal["not_reached"]
"""Also (by the new message's id) those whom another message did not reach; nobody asks for these by naming them."""


class Target(msgspec.Struct, frozen=True):
    """Whom a message is for: members, groups or branches by id, or everybody; without the excluded."""

    kind: TargetKind
    ids: tuple[UUID, ...] = ()
    excluded: Excluded = NOBODY


class AudienceMember(msgspec.Struct, frozen=True, kw_only=True):
    """A member of an audience."""

    id: UUID
    first_name: str
    last_name: str
    phone_index: bytes
    phone_ciphertext: bytes
    custom_fields: dict[str, str]
    opted_in: bool
    suppressed: bool  # the number has opted out
    branch_id: UUID | None = None


class Page(msgspec.Struct, frozen=True):
    """Some of a message's recipients; what sending to them may cost; where the next page begins."""

    recipients: tuple[ResolvedRecipient, ...]
    segments: int
    cursor: bytes


class Text(msgspec.Struct, frozen=True):
    """What is sent, the same for all of the audience."""

    content: str
    has_media: bool
    smart: bool = False  # the values of fields are smart encoded, too

    def copy_segments(self, fields: dict[str, str]) -> int:
        """What one copy is billed; a picture message is one segment, whatever it says."""
        return 1 if self.has_media else max(1, sms.segments(sms.render(self.content, fields)).segments)


def compose_page(
    members: Iterable[AudienceMember],
    text: Text,
    message_id: UUID,
    dispatched_at: datetime,
    limited: Collection[bytes] = (),
) -> tuple[ResolvedRecipient, ...]:
    """Make recipients, one per number, out of members in the order of their numbers.

    ``limited``: the numbers that have had as many texts this week as the church allows.
    """
    names = sms.field_names(text.content)
    return tuple(_recipients(members, names, message_id, dispatched_at, limited, smart=text.smart))


def page_of(recipients: tuple[ResolvedRecipient, ...], text: Text, cursor: bytes) -> Page:
    """A page of recipients, with what it is billed and where the next one begins."""
    segments = sum(text.copy_segments(each.fields) for each in recipients if each.gets_text)
    return Page(recipients, segments, recipients[-1].phone_index if recipients else cursor)


def _recipients(
    members: Iterable[AudienceMember],
    names: tuple[str, ...],
    message_id: UUID,
    dispatched_at: datetime,
    limited: Collection[bytes],
    *,
    smart: bool,
) -> Iterator[ResolvedRecipient]:
    for phone_index, sharing in groupby(members, key=lambda member: member.phone_index):
        family = list(sharing)
        reason = left_out(family)
        yield ResolvedRecipient(
            recipient_id=derived_id(dispatched_at, message_id.bytes, phone_index),
            member_ids=tuple(member.id for member in family),
            phone_index=phone_index,
            phone_ciphertext=family[0].phone_ciphertext,
            fields=field_values(family, names, smart=smart),
            left_out=reason,
            branch_id=family[0].branch_id,
            over_limit=reason is None and phone_index in limited,
        )


def left_out(family: Sequence[AudienceMember]) -> LeftOut | None:
    """Why a number gets no text: an opt-out is the number's; consent of one who shares it is enough."""
    if family[0].suppressed:
        return "suppressed"
    return None if any(member.opted_in for member in family) else "no_consent"


def field_values(family: Sequence[AudienceMember], names: Iterable[str], *, smart: bool = False) -> dict[str, str]:
    """The values of a text's fields for one number; different ones of a family are joined."""
    encode = sms.smart_value if smart else str
    values = {name: _joined(encode(value_of(member, name)) for member in family) for name in names}
    return {name: value for name, value in values.items() if value}


def value_of(member: AudienceMember, name: str) -> str:
    """A member's value of a field."""
    if name == "firstName":
        return member.first_name
    if name == "lastName":
        return member.last_name
    return member.custom_fields.get(name, "")


def _joined(values: Iterable[str]) -> str:
    return sms.clean_value(TOGETHER.join(dict.fromkeys(value for value in values if value)))
