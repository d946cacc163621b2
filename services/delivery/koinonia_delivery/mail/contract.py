"""What every way of an e-mail promises: it was handed over, or one of four errors tells what is known."""

from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Protocol
from uuid import UUID

import msgspec

from koinonia.errors import Outspoken


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """An e-mail as it goes out: the same bytes, with the same Message-ID, at each attempt."""

    id: UUID
    created_at: datetime
    sender_name: str
    sender: str  # addresses are bare: name@host
    recipient: str
    subject: str
    text: str
    html: str

    def __repr__(self) -> str:
        """Its id alone: the rest is nobody's business."""
        return f"Mail({self.id})"

    @property
    def message_id(self) -> str:
        """By this a server or a mailbox knows a repeat."""
        return f"<{self.id}@{self.sender.rpartition('@')[2]}>"

    def to_bytes(self) -> bytes:
        """The message of RFC 5322, plain text before HTML. A header with a line break in it is refused: ValueError."""
        message = EmailMessage(policy=SMTP)
        message["From"] = Address(self.sender_name, addr_spec=self.sender)
        message["To"] = Address(addr_spec=self.recipient)
        message["Subject"] = self.subject
        message["Date"] = format_datetime(self.created_at)
        message["Message-ID"] = self.message_id
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(self.text, cte="quoted-printable")
        message.add_alternative(self.html, subtype="html", cte="quoted-printable")
        message.set_boundary(f"=_{self.id.hex}")
        return message.as_bytes()


class MailError(Outspoken):
    """It was not handed over, or nobody knows. ``code`` is the server's; its words may hold an address, so none are."""

    def __init__(self, code: str | None = None, *, retry_after_seconds: float = 0.0) -> None:
        super().__init__(code or "no code")
        self.code = code
        self.retry_after_seconds = retry_after_seconds


class Away(MailError):
    """The server cannot be reached, or takes nothing from us: it says nothing about this e-mail."""


class Refused(MailError):
    """The server does not take this e-mail now, and may later."""


class Rejected(MailError):
    """The server will never take this e-mail."""


class OutcomeUnknown(MailError):
    """It was handed over and not acknowledged: the server may have it, or not.

    It is sent again under the same Message-ID, as RFC 5321 wants of a client: twice is the lesser evil.
    """


class Mailer(Protocol):
    """A way of e-mails to their server."""

    async def send(self, mail: Mail) -> None:
        """Hand one e-mail over.

        Raises:
            Away, Refused, Rejected, OutcomeUnknown: as they say.
        """

    async def close(self) -> None:
        """Close its connections."""
