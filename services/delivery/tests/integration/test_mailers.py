"""The ways of an e-mail, over real connections: SMTP with TLS and a login, SendGrid's API, and files."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import pytest
import uvloop
from services.delivery.tests.integration.mail_servers import (
    PASSWORD,
    USER,
    SendGridStub,
    SmtpStub,
    sendgrid_server,
    smtp_server,
)

from koinonia import clock
from koinonia.secret import Secret
from koinonia.testing.tls import certificate, server_context
from koinonia_delivery.mail import smtp
from koinonia_delivery.mail.contract import Away, Mail, MailError, OutcomeUnknown, Refused, Rejected
from koinonia_delivery.mail.folder import FolderMailer
from koinonia_delivery.mail.sendgrid import SendGridMailer
from koinonia_delivery.mail.smtp import SmtpMailer, SmtpServer

LOGIN = f"{USER}:{quote(PASSWORD, safe='')}@"
MAIL = Mail(
    id=UUID(int=7),
    created_at=datetime(2026, 11, 22, 15, 30, tzinfo=UTC),
    sender_name="Koinonia",
    sender="no-reply@koinonia.example",
    recipient="anna@example.org",
    subject="Wähle ein neues Passwort",
    text="Hello Anna,\n\n.a line that begins with a dot\n",
    html="<p>Hello Anna,</p>",
)
Send = Callable[..., "asyncio.Future[None]"]


class Post:
    """A server and the URL that reaches it."""

    def __init__(self, server: SmtpStub, cafile: Path) -> None:
        self.server = server
        self.cafile = cafile

    def url(self, scheme: str = "smtp", login: str = LOGIN) -> str:
        return f"{scheme}://{login}127.0.0.1:{self.server.port}?cafile={self.cafile}"

    async def send(self, url: str | None = None) -> None:
        await SmtpMailer(Secret(url or self.url())).send(MAIL)


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    file = certificate(tmp_path)
    async with smtp_server(server_context(file)) as server:
        yield Post(server, file)


def assert_arrived(server: SmtpStub) -> None:
    (mail,), (envelope,) = server.mails, server.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply@koinonia.example", ["anna@example.org"])
    assert mail["Subject"] == MAIL.subject
    assert mail["Message-ID"] == "<00000000-0000-0000-0000-000000000007@koinonia.example>"
    text, html = mail.iter_parts()
    assert text.get_content().replace("\r\n", "\n") == MAIL.text
    assert "<p>Hello Anna,</p>" in html.get_content()


async def test_starttls_with_a_login_brings_the_email_over_encrypted(post: Post) -> None:
    await post.send()
    assert_arrived(post.server)
    assert (post.server.encrypted, post.server.logins) == ([True], ["right"])


def test_starttls_works_on_the_services_own_event_loop(tmp_path: Path) -> None:
    async def go() -> None:
        file = certificate(tmp_path)
        async with smtp_server(server_context(file)) as server:
            await Post(server, file).send()
            assert_arrived(server)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(go())


async def test_tls_from_the_start_with_a_login(tmp_path: Path) -> None:
    file = certificate(tmp_path)
    async with smtp_server(server_context(file), from_start=True) as server:
        await Post(server, file).send(Post(server, file).url("smtps"))
        assert_arrived(server)
        assert server.logins == ["right"]


async def test_only_a_setting_that_says_so_sends_in_the_clear() -> None:
    async with smtp_server(login=False) as server:
        with pytest.raises(Away):
            await SmtpMailer(Secret(f"smtp://127.0.0.1:{server.port}")).send(MAIL)
        assert server.mails == []
        await SmtpMailer(Secret(f"smtp://127.0.0.1:{server.port}?tls=off")).send(MAIL)
        assert_arrived(server)


async def test_a_certificate_that_nobody_vouches_for_gets_neither_login_nor_email(post: Post, tmp_path: Path) -> None:
    other = certificate(tmp_path / "other")
    with pytest.raises(Away):
        await post.send(f"smtp://{LOGIN}127.0.0.1:{post.server.port}?cafile={other}")
    with pytest.raises(Away):
        await post.send(f"smtp://{LOGIN}127.0.0.1:{post.server.port}")
    assert (post.server.mails, post.server.logins) == ([], [])


async def test_a_certificate_of_another_host_is_refused(tmp_path: Path) -> None:
    file = certificate(tmp_path, "another.test")
    async with smtp_server(server_context(file)) as server:
        with pytest.raises(Away):
            await Post(server, file).send()
        assert (server.mails, server.logins) == ([], [])


@pytest.mark.parametrize(
    ("answers", "error", "code"),
    [
        ({"RCPT": ["451 4.7.1 Greylisted <anna@example.org>"]}, Refused, "451"),
        ({"RCPT": ["550 5.1.1 <anna@example.org>: no such user"]}, Rejected, "550"),
        ({"START": ["451 4.3.0 Not now"]}, Refused, "451"),
        ({"START": ["554 5.5.1 No valid recipients"]}, Rejected, "554"),
        ({"START": ["250 2.0.0 No message wanted"]}, Refused, "250"),
        ({"DATA": ["452 4.3.1 Disk full"]}, Refused, "452"),
        ({"DATA": ["554 5.7.1 Spam from anna@example.org"]}, Rejected, "554"),
        ({"MAIL": ["550 5.7.1 You may not send as this"]}, Away, "550"),
        ({"MAIL": ["450 4.7.1 Later"]}, Away, "450"),
        ({"RCPT": ["421 4.3.0 Closing"]}, Away, "421"),
    ],
)
async def test_a_servers_refusal_is_told_by_its_code_alone(
    post: Post, answers: dict[str, list[str]], error: type[MailError], code: str
) -> None:
    post.server.answers = answers
    with pytest.raises(error) as raised:
        await post.send()
    assert type(raised.value) is error
    assert raised.value.code == code
    assert "anna" not in str(raised.value)
    assert post.server.mails == []


async def test_a_server_may_take_longer_over_the_message_than_over_a_command(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "REPLY_SECONDS", 5.0)
    monkeypatch.setattr(smtp, "CALL_SECONDS", 5.0)
    post.server.before_data = lambda: asyncio.sleep(6.0)  # the server's own time
    await post.send()
    assert_arrived(post.server)
    assert smtp.DATA_SECONDS >= 600


async def test_a_server_that_never_answers_the_message_is_an_unknown_outcome(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "DATA_SECONDS", 1.0)
    post.server.before_data = asyncio.Event().wait
    with pytest.raises(OutcomeUnknown, match="SMTPReadTimeoutError"):
        await post.send()
    assert_arrived(post.server)


async def test_a_server_that_never_begins_with_the_message_has_nothing_of_it(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "START_SECONDS", 0.2)
    post.server.before_start = asyncio.Event().wait
    with pytest.raises(Away, match="SMTPReadTimeoutError"):
        await post.send()
    assert post.server.mails == []


async def test_a_connection_that_breaks_before_the_message_says_nothing_about_it(post: Post) -> None:
    post.server.answers = {"START": ["drop"]}
    with pytest.raises(Away, match="SMTPServerDisconnected"):
        await post.send()
    assert post.server.mails == []


async def test_a_connection_that_breaks_after_the_email_is_an_unknown_outcome(post: Post) -> None:
    post.server.answers = {"DATA": ["drop"]}
    with pytest.raises(OutcomeUnknown):
        await post.send()
    assert len(post.server.mails) == 1
    await post.send()
    assert [mail["Message-ID"] for mail in post.server.mails] == [post.server.mails[0]["Message-ID"]] * 2


async def test_a_wrong_password_and_a_server_that_is_away_say_nothing_about_the_email(post: Post) -> None:
    with pytest.raises(Away) as raised:
        await post.send(post.url(login=f"{USER}:wrong@"))
    assert raised.value.code == "535"
    with pytest.raises(Away):
        await post.send("smtp://127.0.0.1:1?tls=off")


async def test_the_servers_address_is_asked_for_at_each_email(post: Post) -> None:
    url = Secret(post.url(login=f"{USER}:wrong@"))
    mailer = SmtpMailer(url)
    with pytest.raises(Away):
        await mailer.send(MAIL)
    url._value = post.url()
    await mailer.send(MAIL)
    assert_arrived(post.server)


@pytest.mark.parametrize(
    "wrong",
    [
        "http://mail.example", "smtp://", "smtps://mail.example?tls=off", "smtp://a:b@mail.example?tls=off",
        "smtp://mail.example?tls=maybe", "smtp://mail.example?verify=no", "smtp://mail.example:port", "mail.example",
        "smtp://mail.example\nx", "smtp://[mail.example",
    ],
)  # fmt: skip
def test_a_server_that_cannot_be_meant_is_refused_without_showing_it(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as raised:
        SmtpServer.parse(wrong)
    assert "mail.example" not in str(raised.value)


def test_ports_and_logins_are_what_the_url_says() -> None:
    server = SmtpServer.parse("smtp://us%40er:p%3Ass@mail.example")
    assert (server.host, server.port, server.tls) == ("mail.example", 587, "starttls")
    assert (server.username, server.password) == ("us@er", "p:ss")
    assert SmtpServer.parse("smtps://mail.example").port == 465
    assert "p:ss" not in repr(server)


@pytest.fixture
async def sendgrid() -> AsyncIterator[SendGridStub]:
    async with sendgrid_server() as server:
        yield server


@pytest.fixture
async def grid(sendgrid: SendGridStub) -> AsyncIterator[SendGridMailer]:
    mailer = SendGridMailer(sendgrid.url, Secret("SG.test"))
    yield mailer
    await mailer.close()


async def test_sendgrid_gets_both_forms_and_counts_no_clicks(grid: SendGridMailer, sendgrid: SendGridStub) -> None:
    await grid.send(MAIL)
    (body,) = sendgrid.bodies
    (personal,) = body["personalizations"]
    assert personal == {"to": [{"email": "anna@example.org"}], "custom_args": {"email_id": str(MAIL.id)}}
    assert body["from"] == {"email": "no-reply@koinonia.example", "name": "Koinonia"}
    assert [each["type"] for each in body["content"]] == ["text/plain", "text/html"]
    assert body["headers"]["Message-ID"] == MAIL.message_id
    assert body["tracking_settings"]["click_tracking"] == {"enable": False, "enable_text": False}


@pytest.mark.parametrize(
    ("status", "error", "wait"),
    [
        (400, Rejected, 0.0), (413, Rejected, 0.0), (401, Away, 0.0), (403, Away, 0.0), (404, Away, 0.0),
        (429, Away, 7.0), (503, Away, 7.0), (500, OutcomeUnknown, 0.0), (502, OutcomeUnknown, 0.0), (302, Away, 0.0),
    ],
)  # fmt: skip
async def test_sendgrids_answers(
    grid: SendGridMailer, sendgrid: SendGridStub, status: int, error: type[MailError], wait: float
) -> None:
    sendgrid.answers = [(status, {"Retry-After": "7", "Location": f"{sendgrid.url}/elsewhere"})]
    with pytest.raises(error) as raised:
        await grid.send(MAIL)
    assert type(raised.value) is error
    assert (raised.value.code, raised.value.retry_after_seconds) == (str(status), wait)
    assert MAIL.subject not in str(raised.value)


async def test_a_wrong_key_and_a_lost_answer(grid: SendGridMailer, sendgrid: SendGridStub) -> None:
    sendgrid.drops = 1
    with pytest.raises(OutcomeUnknown):
        await grid.send(MAIL)
    sendgrid.key = "SG.another"
    with pytest.raises(Away):
        await grid.send(MAIL)
    nobody = SendGridMailer("http://127.0.0.1:1", Secret("SG.test"))
    with pytest.raises(Away):
        await nobody.send(MAIL)
    await nobody.close()


async def test_sendgrids_key_changes_between_two_emails_without_an_error(
    sendgrid: SendGridStub, tmp_path: Path
) -> None:
    file, looks = tmp_path / "key", itertools.count()  # each a second after the last
    mailer = SendGridMailer(sendgrid.url, Secret("SG.test", file=file, clock=lambda: float(next(looks))))
    for content in ("SG.test", "", "SG.new"):
        file.write_text(content)
        sendgrid.key = content or sendgrid.key
        await mailer.send(MAIL)
    await mailer.close()
    assert len(sendgrid.bodies) == 3


async def test_a_file_is_there_whole_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    mailer = FolderMailer(tmp_path / "state" / "mail")
    await mailer.send(MAIL)
    await mailer.send(MAIL)
    (file,) = (tmp_path / "state" / "mail").iterdir()
    assert file.name == f"{MAIL.id}.eml"
    assert message_from_bytes(file.read_bytes(), policy=default)["Subject"] == MAIL.subject
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent.stat().st_mode & 0o077 == 0


async def test_files_are_deleted_after_some_days_and_the_rest_of_the_folder_stays(tmp_path: Path) -> None:
    mailer = FolderMailer(tmp_path)
    await mailer.forget(7)
    await mailer.send(MAIL)
    (tmp_path / f".{UUID(int=8)}.eml.77").write_text("the draft of a killed worker")
    (tmp_path / "notes.txt").write_text("an operator's")
    with clock.shifted(7 * 86_400 - 60):
        await mailer.forget(7)
    assert len(list(tmp_path.iterdir())) == 3
    with clock.shifted(7 * 86_400 + 60):
        await mailer.forget(7)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    await FolderMailer(tmp_path / "never-written").forget(7)


async def test_a_folder_that_cannot_be_written_keeps_the_email_waiting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Away):
        await FolderMailer(tmp_path / "file" / "mail").send(MAIL)
