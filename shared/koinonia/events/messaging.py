"""What messaging publishes: people, and the way of a broadcast from wish to completion."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal
from uuid import UUID

import msgspec

from koinonia.events.common import ErasureCompleted, ExportCollected
from koinonia.events.envelope import Event

CHUNK_SIZE = 500
"""Recipients in one chunk, members in one change."""


class MemberState(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A member as of ``version``."""

    member_id: UUID
    version: int
    first_name: str
    last_name: str
    phone_index: bytes | None  # blind index; None: no phone
    phone_ciphertext: bytes | None
    branch_id: UUID
    opted_in: bool
    deleted: bool = False
    merged_into: UUID | None = None  # of a deleted one: the member who stands for it


class MembersChanged(Event, frozen=True, kw_only=True):
    """Members were added, changed or removed."""

    TYPE: ClassVar[str] = "messaging.members.changed"
    members: Annotated[tuple[MemberState, ...], msgspec.Meta(max_length=CHUNK_SIZE)]
    source: Literal["admin", "import"]  # where their consent comes from


class GivenConsent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A member came to consent, as somebody of the church says."""

    member_id: UUID
    version: int  # of the member, who consents from this one on
    phone_index: bytes
    source: str  # in the church's words, where it was given: no phone number and no e-mail address in it


class ConsentsGiven(Event, frozen=True, kw_only=True):
    """Members came to consent, and it was said where."""

    TYPE: ClassVar[str] = "messaging.consents.given"
    consents: Annotated[tuple[GivenConsent, ...], msgspec.Meta(max_length=CHUNK_SIZE)]
    said_by: Literal["admin", "import"]
    said_at: datetime


class BranchChanged(Event, frozen=True, kw_only=True):
    """A branch was made, renamed or removed."""

    TYPE: ClassVar[str] = "messaging.branch.changed"
    branch_id: UUID
    version: int
    name: str
    is_default: bool
    deleted: bool = False


class GroupChanged(Event, frozen=True, kw_only=True):
    """A group was made, renamed or removed."""

    TYPE: ClassVar[str] = "messaging.group.changed"
    group_id: UUID
    version: int
    name: str
    branch_id: UUID | None
    deleted: bool = False


class MessageAccepted(Event, frozen=True, kw_only=True):
    """A church asked for a broadcast; nothing is sent yet."""

    TYPE: ClassVar[str] = "messaging.message.accepted"
    message_id: UUID
    recipient_count: int  # distinct numbers, left-out ones included
    segment_bound: int  # no more segments than these
    scheduled_at: datetime | None = None  # UTC; None: now
    test: bool = False  # sent with a test key: answered by the simulated carrier, billed to nobody


class MessageHeld(Event, frozen=True, kw_only=True):
    """A broadcast has come to wait for the word of somebody else than who asked for it. It may wait more than once."""

    TYPE: ClassVar[str] = "messaging.message.held"
    message_id: UUID
    requested_by: UUID | None  # the admin or API key; None: nobody knows any more
    recipient_count: int  # distinct numbers as counted then, left-out ones included


class MessageDue(Event, frozen=True, kw_only=True):
    """Sending is due, or needs more than was authorized; billing answers with this version."""

    TYPE: ClassVar[str] = "messaging.message.due"
    message_id: UUID
    version: int
    recipient_count: int
    segment_bound: int  # of the whole message, what was authorized before included
    test: bool = False  # sent with a test key: answered by the simulated carrier, billed to nobody


class ResolvedRecipient(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One number of an audience."""

    recipient_id: UUID
    member_ids: tuple[UUID, ...]  # a family shares a number
    phone_index: bytes
    phone_ciphertext: bytes
    fields: dict[str, str]  # values for the text's fields
    left_out: Literal["no_consent", "suppressed"] | None = None  # why this number gets no text
    branch_id: UUID | None = None  # whose people it is counted with: the first member's of a family
    over_limit: bool = False  # gets no text either: it had as many this week as the church allows

    @property
    def gets_text(self) -> bool:
        return self.left_out is None and not self.over_limit


class RecipientsResolved(Event, frozen=True, kw_only=True):
    """A page of a broadcast's audience, with the text once."""

    TYPE: ClassVar[str] = "messaging.recipients.resolved"
    message_id: UUID
    dispatched_at: datetime  # the time in each recipient's id
    content: str  # with its fields
    media_urls: tuple[str, ...]
    recipients: Annotated[tuple[ResolvedRecipient, ...], msgspec.Meta(min_length=1, max_length=CHUNK_SIZE)]
    number_id: UUID | None = None  # the sender; None: the church's own choice of numbers
    do_not_send_after: datetime | None = None
    test: bool = False  # sent with a test key: answered by the simulated carrier, billed to nobody
    urgent: bool = False  # goes in the church's quiet hours, too


class RecipientsResolvedForTest(RecipientsResolved, frozen=True, kw_only=True):
    """A page of a test's audience. A process that knows no tests cannot read this version, and sends it to nobody."""

    VERSION: ClassVar[int] = 2
    test: Literal[True] = True


class MessageDispatched(Event, frozen=True, kw_only=True):
    """The whole audience of a broadcast has been published."""

    TYPE: ClassVar[str] = "messaging.message.dispatched"
    message_id: UUID
    dispatched_at: datetime
    recipient_count: int
    test: bool = False  # sent with a test key: answered by the simulated carrier, billed to nobody


class MessageCancelled(Event, frozen=True, kw_only=True):
    """What is not yet with the carrier shall not be sent. Outlives its message: a chunk that comes later meets it."""

    TYPE: ClassVar[str] = "messaging.message.cancelled"
    message_id: UUID
    cancelled_at: datetime
    test: bool = False  # sent with a test key: answered by the simulated carrier, billed to nobody


class MessagePaused(Event, frozen=True, kw_only=True):
    """A broadcast rests until it is resumed. Of this and its counterpart the later version holds."""

    TYPE: ClassVar[str] = "messaging.message.paused"
    message_id: UUID
    version: int  # of the pause; grows with each pause and each resumption
    paused_at: datetime
    reason: str | None = None  # why it paused itself, in plain words; None: a person wished it
    test: bool = False  # sent with a test key: answered by the simulated carrier, billed to nobody


class MessageResumed(Event, frozen=True, kw_only=True):
    """A broadcast that was paused goes on."""

    TYPE: ClassVar[str] = "messaging.message.resumed"
    message_id: UUID
    version: int
    test: bool = False  # sent with a test key: answered by the simulated carrier, billed to nobody


class SendingPaused(Event, frozen=True, kw_only=True):
    """Nothing of the church is sent until it resumes. Of this and its counterpart the later version holds."""

    TYPE: ClassVar[str] = "messaging.sending.paused"
    version: int
    paused_at: datetime


class SendingResumed(Event, frozen=True, kw_only=True):
    """The church sends again."""

    TYPE: ClassVar[str] = "messaging.sending.resumed"
    version: int


class MessageCompleted(Event, frozen=True, kw_only=True):
    """No row of the message is open any more: its reservation can be settled."""

    TYPE: ClassVar[str] = "messaging.message.completed"
    message_id: UUID
    recipient_count: int
    test: bool = False  # sent with a test key: answered by the simulated carrier, billed to nobody


class FailedRequested(Event, frozen=True, kw_only=True):
    """A message is to be sent again to those whom another one did not reach; delivery answers with the next of them."""

    TYPE: ClassVar[str] = "messaging.failed.requested"
    message_id: UUID  # the new one
    source_id: UUID  # the message that failed
    after: UUID | None = None  # the last recipient of the answer before; None: from the first on


class MessagingExportCollected(ExportCollected, frozen=True, kw_only=True):
    """Messaging's part of an export."""

    TYPE: ClassVar[str] = "messaging.export.collected"


class MessagingErasureCompleted(ErasureCompleted, frozen=True, kw_only=True):
    """Messaging has erased its part."""

    TYPE: ClassVar[str] = "messaging.erasure.completed"


EVENTS = (
    MembersChanged,
    ConsentsGiven,
    BranchChanged,
    GroupChanged,
    MessageAccepted,
    MessageHeld,
    MessageDue,
    RecipientsResolved,
    RecipientsResolvedForTest,
    MessageDispatched,
    MessageCancelled,
    MessagePaused,
    MessageResumed,
    SendingPaused,
    SendingResumed,
    MessageCompleted,
    FailedRequested,
    MessagingExportCollected,
    MessagingErasureCompleted,
)
