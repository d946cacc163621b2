"""SMTP with TLS: a connection of its own for each e-mail, which is certain before and after the handing over.

Source: RFC 5321, 4.2.1 (replies), 4.5.2 (leading dots), 4.5.3.2.4 and 4.5.3.2.6 (a server may take two minutes to begin
with a message, and ten over one that it has; a client that hears nothing then sends it again).
"""

import asyncio
import re
import ssl
from collections.abc import Awaitable
from contextlib import suppress
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
from aiosmtplib import SMTP, SMTPException, SMTPResponseException, SMTPServerDisconnected

from koinonia.secret import Secret
from koinonia_delivery.mail.contract import Away, Mail, OutcomeUnknown, Refused, Rejected

REPLY_SECONDS = 20.0
CALL_SECONDS = 40.0  # until the server knows for whom it is
START_SECONDS = 120.0  # for the 354: until then nothing of the message has gone
DATA_SECONDS = 600.0  # for the reply to it: whoever asks again too early doubles it
QUIT_SECONDS = 2.0
_DOT = re.compile(rb"^\.", re.MULTILINE)
_PORTS = {"smtp": 587, "smtps": 465}
_START, _DONE = 354, 250
_CLOSING = 421  # the server goes away, whatever the command was


class SmtpServer(msgspec.Struct, frozen=True, kw_only=True):
    """Where e-mails go, as ``KOINONIA_SMTP_URL`` says.

    ``smtps://name:password@host`` speaks TLS from the start, ``smtp://`` begins with STARTTLS; ``?cafile=`` names the
    authorities to trust in place of the system's, and ``smtp://…?tls=off`` speaks in the clear.
    """

    host: str
    port: int
    tls: Literal["from_start", "starttls", "off"]
    cafile: str | None = None
    username: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, url: str) -> "SmtpServer":
        """Read the setting.

        Raises:
            ValueError: it is no such URL; the message shows nothing of it.
        """
        try:
            parts, given = urlsplit(url), {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}
            port = parts.port
        except ValueError:
            raise ValueError("it is no URL") from None
        if parts.scheme not in _PORTS or not parts.hostname or not url.isprintable():
            raise ValueError("expected smtp://host or smtps://host")
        if given.keys() - {"tls", "cafile"} or given.get("tls", "off") != "off":
            raise ValueError("what it says after ? is neither cafile=… nor tls=off")
        clear = "tls" in given
        if clear and (parts.scheme == "smtps" or parts.username):
            raise ValueError("tls=off goes with smtp:// and without a login")
        return cls(
            host=parts.hostname,
            port=port or _PORTS[parts.scheme],
            tls="off" if clear else "from_start" if parts.scheme == "smtps" else "starttls",
            cafile=given.get("cafile"),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password or "") if parts.username else None,
        )

    def __repr__(self) -> str:
        return f"SmtpServer({self.host}:{self.port})"


class SmtpMailer:
    """Hands e-mails to the server that the setting names at that moment."""

    def __init__(self, url: Secret) -> None:
        self._url = url

    async def send(self, mail: Mail) -> None:
        """Hand one e-mail over; see ``Mailer.send``."""
        message = mail.to_bytes()
        client = await self._client()
        handing_over = False
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await client.connect()
                await _command(client.mail(mail.sender), of_this_mail=False)
                await _command(client.rcpt(mail.recipient))
            await _command(_start(client))
            handing_over = True
            await _command(_finish(client, message))
        except (SMTPException, OSError) as error:  # of which TimeoutError is one
            client.close()  # a reply that still comes answers nothing
            raise (OutcomeUnknown if handing_over else Away)(_code(error)) from error
        finally:
            await _leave(client)

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _client(self) -> SMTP:
        server = SmtpServer.parse(self._url.value)
        try:
            tls = None if server.tls == "off" else await asyncio.to_thread(_tls, server.cafile)
        except OSError as error:
            raise Away("cafile") from error
        return SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username,
            password=server.password,
            timeout=REPLY_SECONDS,
            use_tls=server.tls == "from_start",
            start_tls=server.tls == "starttls",
            tls_context=tls,
        )


async def _command(reply: Awaitable[object], *, of_this_mail: bool = True) -> None:
    """Wait for a reply: 4xx is for now, 5xx for good, and what is not about this e-mail keeps all of them back.

    Raises:
        Away, Refused, Rejected: as the server says.
    """
    try:
        await reply
    except SMTPResponseException as error:
        if error.code == _CLOSING or not of_this_mail:
            raise Away(_code(error)) from error
        raise (Rejected if error.code >= 500 else Refused)(_code(error)) from error


async def _start(client: SMTP) -> None:
    reply = await client.execute_command(b"DATA", timeout=START_SECONDS)
    if reply.code != _START:
        raise SMTPResponseException(reply.code, reply.message)


async def _finish(client: SMTP, message: bytes) -> None:
    """Send the message, whose lines end in CRLF. ``client.data`` would not tell on which side of 354 it broke."""
    if client.protocol is None:
        raise SMTPServerDisconnected("Connection lost")
    client.protocol.write(_DOT.sub(b"..", message) + b".\r\n")
    reply = await client.protocol.read_response(timeout=DATA_SECONDS)
    if reply.code != _DONE:
        raise SMTPResponseException(reply.code, reply.message)


async def _leave(client: SMTP) -> None:
    with suppress(SMTPException, OSError):
        if client.is_connected:
            await client.quit(timeout=QUIT_SECONDS)
    client.close()


def _tls(cafile: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=cafile)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _code(error: BaseException) -> str:
    return str(error.code) if isinstance(error, SMTPResponseException) else type(error).__name__
