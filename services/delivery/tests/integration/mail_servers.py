"""Mail servers for tests: SMTP with TLS and a login, and SendGrid's API, each with faults on request."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import msgspec
from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER, PASSWORD = "koinonia", "p@ss/word:1"


class SmtpStub:
    """What a real SMTP server does with what it gets; ``answers`` by command are used up first.

    DATA is the answer to the message, START the one before it, in place of 354.
    """

    def __init__(self) -> None:
        self.port = 0
        self.mails: list[EmailMessage] = []
        self.envelopes: list[Envelope] = []
        self.encrypted: list[bool] = []
        self.logins: list[str] = []
        self.answers: dict[str, list[str]] = {}
        self.passwords = {PASSWORD}
        self.before_start: Callable[[], Awaitable[object]] | None = None
        self.before_data: Callable[[], Awaitable[object]] | None = None

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        right = isinstance(data, LoginPassword) and data.password.decode() in self.passwords
        self.logins.append("right" if right else "wrong")
        return AuthResult(success=right, handled=False)

    def _answer(self, command: str) -> str | None:
        waiting = self.answers.get(command, [])
        return waiting.pop(0) if waiting else None

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        envelope.mail_from = address
        return self._answer("MAIL") or "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        if answer := self._answer("RCPT"):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        answer = self._answer("DATA") or "250 OK"
        if answer.startswith(("250", "drop")):
            content = envelope.content
            assert isinstance(content, bytes)
            message = message_from_bytes(content, policy=default)
            assert isinstance(message, EmailMessage)
            self.mails.append(message)
            self.envelopes.append(envelope)
            self.encrypted.append(session.ssl is not None)
        if self.before_data is not None:
            await self.before_data()
        if answer == "drop":
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return answer


class _Server(SMTP):
    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        stub = self.event_handler
        if stub.before_start is not None:
            await stub.before_start()
        answer = stub._answer("START")
        if answer == "drop":
            assert isinstance(self.transport, asyncio.Transport)
            self.transport.abort()
        elif answer is not None:
            await self.push(answer)
        else:
            await super().smtp_DATA(arg)


@asynccontextmanager
async def smtp_server(
    tls: ssl.SSLContext | None = None, *, from_start: bool = False, login: bool = True
) -> AsyncIterator[SmtpStub]:
    """A server on 127.0.0.1; with ``tls`` it wants STARTTLS and then a login, or speaks TLS from the start."""
    stub = SmtpStub()

    def make() -> SMTP:
        return _Server(
            stub,
            hostname="mail.test",
            tls_context=None if from_start else tls,
            require_starttls=tls is not None and not from_start,
            authenticator=stub.authenticate if login else None,
            auth_required=login and tls is not None and not from_start,
            auth_require_tls=not from_start,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(make, "127.0.0.1", 0, ssl=tls if from_start else None)
    stub.port = server.sockets[0].getsockname()[1]
    try:
        yield stub
    finally:
        server.close()


class SendGridStub:
    """SendGrid's Mail Send, as its page describes it; ``answers`` are used up first."""

    def __init__(self) -> None:
        self.url = ""
        self.key = "SG.test"
        self.bodies: list[dict[str, Any]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.drops = 0

    async def take(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"errors": [{"message": "authorization required"}]}, status=401)
        body = msgspec.json.decode(await request.read())
        if self.answers:
            status, headers = self.answers.pop(0)
            return web.json_response({"errors": [{"message": body["subject"]}]}, status=status, headers=headers)
        self.bodies.append(body)
        if self.drops:
            self.drops -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=202, headers={"X-Message-Id": "x"})


@asynccontextmanager
async def sendgrid_server() -> AsyncIterator[SendGridStub]:
    """SendGrid on 127.0.0.1."""
    stub = SendGridStub()
    application = web.Application()
    application.router.add_post("/v3/mail/send", stub.take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield stub
    finally:
        await runner.cleanup()
