"""E-mails from the wish to the mailbox: stored once, sent once, and private on the whole way."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from services.delivery.tests.integration.conftest import World, settings_for
from services.delivery.tests.integration.mail_servers import USER, SmtpStub, smtp_server
from structlog.testing import capture_logs

from koinonia import clock
from koinonia.cli.main import CommandFailed
from koinonia.db import statement
from koinonia.db.archives import Archives
from koinonia.events.delivery import EmailRequested
from koinonia.files import Directory
from koinonia.ids import new_id
from koinonia.life import Life
from koinonia.resilience.breaker import Breaker
from koinonia.secret import Secret
from koinonia.security.keys import Keys
from koinonia.settings import SettingsError
from koinonia.testing.databases import DatabaseUrls
from koinonia.testing.fixtures import wait_until
from koinonia.testing.servers import TestServers
from koinonia.testing.services import KEY_SETTINGS, BusProbe, StartService
from koinonia.testing.tls import certificate, server_context
from koinonia_delivery import app, emails, erasing, worker
from koinonia_delivery.commands import read_emails
from koinonia_delivery.domain.mailing import REFUSALS, UNKNOWNS
from koinonia_delivery.emails import Mailing, Sender
from koinonia_delivery.mail import sendgrid, smtp
from koinonia_delivery.mail.contract import Away, Mail, Mailer
from koinonia_delivery.mail.folder import FolderMailer
from koinonia_delivery.mail.smtp import SmtpMailer, SmtpServer
from koinonia_delivery.settings import DeliverySettings, WorkerSettings
from koinonia_delivery.store import emails as store

ADDRESS, TOKEN = "anna@example.org", "tok-1234567890"
ROWS = statement("test.emails", "SELECT * FROM emails ORDER BY created_at, id")
BE_DUE = statement("test.emails_due", "UPDATE emails SET due_at = clock_timestamp() - interval '1 second'")
AGE = statement("test.emails_age", "UPDATE emails SET settled_at = settled_at - $1::interval")
EXPIRE = statement("test.emails_expire", "UPDATE emails SET expires_at = clock_timestamp() - interval '1 second'")


class Post:
    """A church that asks for e-mails, and what has become of them."""

    def __init__(self, world: World) -> None:
        self.world = world

    def wish(self, *, email_id: UUID | None = None, expires_at: datetime | None = None, **given: Any) -> EmailRequested:
        keys, church_id = self.world.keys, self.world.church_id
        fields = {"name": "Anna", "church": "Grace Chapel", "token": TOKEN, "valid_for": "30 minutes"}
        values = {
            "template": "password-reset",
            "email_ciphertext": keys.encrypt(given.pop("address", ADDRESS), church_id, "email"),
            "fields_ciphertext": keys.encrypt(msgspec.json.encode(fields).decode(), church_id, "fields"),
            **given,
        }
        at = expires_at or clock.now() + timedelta(minutes=30)
        return EmailRequested(email_id=email_id or new_id(), expires_at=at, **values)

    async def ask(self, count: int = 1, **given: Any) -> None:
        for _ in range(count):
            await self.world.apply("delivery.emails", self.wish(**given))

    async def rows(self) -> list[asyncpg.Record]:
        async with self.world.database.across_churches() as tx:
            return await tx.fetch(ROWS)

    async def statuses(self) -> list[str]:
        return [row["status"] for row in await self.rows()]

    async def be_due(self) -> None:
        """Let every wait and every lease be over."""
        async with self.world.database.across_churches() as tx:
            await tx.execute(BE_DUE)

    async def claim(self) -> list[store.Claimed]:
        """Claim as a worker does that is killed then."""
        async with self.world.database.across_churches() as tx:
            return await store.claim(tx, 8, 90.0)

    def mailing(self, mailer: Mailer, *, keys: Keys | None = None, lease_seconds: float = 90.0) -> Mailing:
        return Mailing(
            self.world.database,
            mailer,
            keys or self.world.keys,
            Sender(name="Koinonia", address="no-reply@koinonia.example", public_url="https://koinonia.example"),
            life=Life(),
            woken=asyncio.Event(),
            lease_seconds=lease_seconds,
        )


async def send_due(mailing: Mailing) -> int:
    """Claim what is due and send it; answers how many were claimed."""
    async with asyncio.TaskGroup() as group:
        return await mailing.begin_due(group)


@pytest.fixture
def post(new_world: World) -> Post:
    return Post(new_world)


@pytest.fixture
async def server() -> AsyncIterator[SmtpStub]:
    async with smtp_server(login=False) as server:
        yield server


@pytest.fixture
def mailer(server: SmtpStub) -> SmtpMailer:
    return SmtpMailer(Secret(f"smtp://127.0.0.1:{server.port}?tls=off"))


# Storing.


async def test_a_wish_is_stored_once_however_often_it_comes(post: Post) -> None:
    envelope = post.world.envelope(post.wish())
    await post.world.apply("delivery.emails", envelope)
    await post.world.apply("delivery.emails", envelope)
    await post.world.apply("delivery.emails", post.wish(email_id=envelope.data.email_id))
    (row,) = await post.rows()
    assert (row["status"], row["church_id"]) == ("queued", post.world.church_id)


async def test_a_wish_whose_storing_is_killed_leaves_nothing_and_comes_again(post: Post) -> None:
    envelope = post.world.envelope(post.wish())

    async def die(_tx: Any) -> None:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        await post.world.apply("delivery.emails", envelope, also=die)
    assert await post.rows() == []
    await post.world.apply("delivery.emails", envelope)
    assert await post.statuses() == ["queued"]


async def test_neither_rows_nor_logs_hold_anything_in_plain(post: Post, server: SmtpStub, mailer: SmtpMailer) -> None:
    server.answers = {
        "RCPT": [f"450 4.7.1 <{ADDRESS}> later", f"550 5.1.1 <{ADDRESS}> unknown"],
        "DATA": [f"554 5.7.1 {TOKEN}", "drop"],
    }
    await post.ask(4)
    with capture_logs() as logs:
        await send_due(post.mailing(mailer))
    shown = repr([dict(row) for row in await post.rows()]) + repr(logs)
    assert sorted(await post.statuses()) == ["failed", "failed", "queued", "queued"]
    assert not any(secret in shown for secret in (ADDRESS, "anna", TOKEN, "Anna", "Grace"))


# Sending.


async def test_an_email_is_sent_once_and_then_forgotten_but_for_its_row(
    post: Post, server: SmtpStub, mailer: SmtpMailer
) -> None:
    await post.ask()
    mailing = post.mailing(mailer)
    assert await send_due(mailing) == 1
    await post.be_due()
    assert await send_due(mailing) == 0
    (row,) = await post.rows()
    assert (row["status"], row["email_ciphertext"], row["fields_ciphertext"]) == ("sent", None, None)
    (mail,) = server.mails
    assert mail["To"] == ADDRESS
    assert mail["Message-ID"] == f"<{row['id']}@koinonia.example>"
    for part in mail.iter_parts():
        assert f"https://koinonia.example/reset-password#token={TOKEN}" in part.get_content()


async def test_two_workers_at_once_send_each_email_once(post: Post, server: SmtpStub, mailer: SmtpMailer) -> None:
    await post.ask(30)
    async with running(post.mailing(mailer)), running(post.mailing(mailer)):
        await wait_until(lambda: all_are(post, "sent"), what="all e-mails sent")
    ids = [mail["Message-ID"] for mail in server.mails]
    assert len(ids) == len(set(ids)) == 30


@asynccontextmanager
async def running(mailing: Mailing) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(mailing.run())
    try:
        yield task
    finally:
        mailing._life.stop("test")
        with suppress(asyncio.CancelledError):
            await task


async def all_are(post: Post, status: str) -> bool:
    return set(await post.statuses()) == {status}


async def test_killed_between_sending_and_marking_it_comes_again_under_the_same_id(
    post: Post, server: SmtpStub, mailer: SmtpMailer
) -> None:
    taken, never = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        taken.set()
        await never.wait()

    server.before_data = hold
    await post.ask()
    async with running(post.mailing(mailer)) as task:
        await taken.wait()
        task.cancel()
    server.before_data = None
    assert await post.statuses() == ["sending"]
    other = post.mailing(mailer)
    assert await send_due(other) == 0, "the lease still runs"
    await post.be_due()
    await send_due(other)
    assert await post.statuses() == ["sent"]
    first, second = server.mails
    assert first["Message-ID"] == second["Message-ID"]
    assert first.as_bytes() == second.as_bytes()


async def test_killed_between_writing_and_marking_there_is_one_file(post: Post, tmp_path: Path) -> None:
    class Dying(FolderMailer):
        async def send(self, mail: Mail) -> None:
            await super().send(mail)
            raise asyncio.CancelledError

    await post.ask()
    await send_due(post.mailing(Dying(tmp_path)))
    assert await post.statuses() == ["sending"]
    await post.be_due()
    await send_due(post.mailing(FolderMailer(tmp_path)))
    assert await post.statuses() == ["sent"]
    assert len(list(tmp_path.iterdir())) == 1


async def test_what_an_old_attempt_says_is_not_heard_when_a_new_one_has_begun(
    post: Post, server: SmtpStub, mailer: SmtpMailer
) -> None:
    async def be_claimed() -> None:
        await post.be_due()
        await post.claim()

    server.before_data = be_claimed
    await post.ask()
    with capture_logs() as logs:
        await send_due(post.mailing(mailer))
    assert await post.statuses() == ["sending"]
    assert [each["event"] for each in logs] == ["email_settled_late"]


async def test_a_worker_that_slept_longer_than_its_lease_sends_nothing(
    post: Post, server: SmtpStub, mailer: SmtpMailer
) -> None:
    await post.ask()
    asleep = post.mailing(mailer)
    (claimed,) = await post.claim()
    await post.be_due()
    await send_due(post.mailing(mailer))
    await asleep._send(claimed)
    assert len(server.mails) == 1
    assert await post.statuses() == ["sent"]


async def test_a_server_that_takes_its_time_keeps_its_email_and_holds_up_no_other(
    post: Post, server: SmtpStub, mailer: SmtpMailer
) -> None:
    answer, waiting = asyncio.Event(), 0

    async def hold_the_first() -> None:
        nonlocal waiting
        waiting += 1
        if waiting == 1:
            await answer.wait()

    async def leases() -> list[datetime]:
        return [row["due_at"] for row in await post.rows() if row["status"] != "sent"]

    async def others_are_sent() -> bool:
        return len(await leases()) == 1

    server.before_data = hold_the_first
    await post.ask(2 * emails.PLACES)
    async with running(post.mailing(mailer, lease_seconds=15.0)):
        await wait_until(others_are_sent, what="all others settled")
        (before,) = await leases()

        async def renewed() -> bool:
            return await leases() > [before]

        await wait_until(renewed, what="its lease renewed")
        answer.set()
        await wait_until(lambda: all_are(post, "sent"), what="the first settled too")
    assert {row["attempt"] for row in await post.rows()} == {1}
    assert len(server.mails) == 2 * emails.PLACES


async def test_an_email_of_unknown_outcome_comes_again_twice_and_stays_to_be_seen(
    post: Post, server: SmtpStub, mailer: SmtpMailer
) -> None:
    server.answers = {"DATA": ["drop"] * (UNKNOWNS + 1)}
    await post.ask()
    for _ in range(UNKNOWNS + 1):
        await send_due(post.mailing(mailer))
        await post.be_due()
    (row,) = await post.rows()
    assert (row["status"], row["unknowns"], row["refusals"]) == ("failed", UNKNOWNS, 0)
    assert len(server.mails) == UNKNOWNS
    async with post.world.database.across_churches() as tx:
        (listed,) = await store.list_open(tx, 10)
    assert (listed.status, listed.unknowns) == ("failed", UNKNOWNS)


@pytest.mark.parametrize(("answers", "counts"), [(["451 later"], (1, 0)), (["drop"], (0, 1))])
async def test_a_temporary_refusal_and_a_lost_answer_are_tried_again_later(
    *, post: Post, server: SmtpStub, mailer: SmtpMailer, answers: list[str], counts: tuple[int, int]
) -> None:
    server.answers = {"DATA": answers}
    await post.ask()
    mailing = post.mailing(mailer)
    await send_due(mailing)
    (row,) = await post.rows()
    assert (row["status"], row["refusals"], row["unknowns"]) == ("queued", *counts)
    assert row["email_ciphertext"] is not None
    await post.be_due()
    await send_due(mailing)
    assert await post.statuses() == ["sent"]


async def test_an_email_that_is_refused_too_often_has_failed_and_an_operator_sees_it_and_lets_it_go(
    *, post: Post, server: SmtpStub, mailer: SmtpMailer, database_urls: DatabaseUrls, servers: TestServers
) -> None:
    server.answers = {"RCPT": ["451 later"] * REFUSALS}
    await post.ask()
    for _ in range(REFUSALS + 1):
        await send_due(post.mailing(mailer))
        await post.be_due()
    (row,) = await post.rows()
    assert (row["status"], row["error_code"], row["refusals"]) == ("failed", "451", REFUSALS)
    url = servers.database_url((await database_urls("delivery")).rpartition("/")[2].partition("?")[0])
    (listed,) = await read_emails(url)
    assert (listed.id, listed.status, listed.error_code) == (row["id"], "failed", "451")
    (listed,) = await read_emails(url, retry=row["id"])
    assert listed.status == "queued"
    with pytest.raises(CommandFailed, match="no e-mail"):
        await read_emails(url, retry=row["id"])
    await send_due(post.mailing(mailer))
    assert await post.statuses() == ["sent"]
    server.answers = {"RCPT": ["550 no"] * 2}
    await post.ask(2)
    await send_due(post.mailing(mailer))
    assert [each.status for each in await read_emails(url)] == ["failed"] * 2
    assert [each.status for each in await read_emails(url, retry="all")] == ["queued"] * 2
    await read_emails(url, retry="all")
    await send_due(post.mailing(mailer))
    assert await all_are(post, "sent")


async def test_an_email_that_kills_every_worker_ends(post: Post) -> None:
    await post.ask()
    for _ in range(UNKNOWNS):
        await post.claim()
        await post.be_due()
    (closed,) = await post.claim()
    assert (closed.status, closed.error_code) == ("failed", "lost")


async def test_a_final_refusal_fails_at_once_and_an_address_that_is_none_reaches_no_server(
    post: Post, server: SmtpStub, mailer: SmtpMailer
) -> None:
    server.answers = {"RCPT": ["550 unknown"]}
    await post.ask()
    await post.ask(address="anna@exa mple")
    with capture_logs() as logs:
        await send_due(post.mailing(mailer))
    assert sorted(row["error_code"] for row in await post.rows()) == ["550", "address"]
    assert await all_are(post, "failed")
    assert [each["log_level"] for each in logs if each["event"] == "email_failed"] == ["error", "error"]


async def test_a_server_that_is_away_costs_no_try_and_is_asked_seldom(post: Post, server: SmtpStub) -> None:
    await post.ask(20)
    url = Secret("smtp://127.0.0.1:1?tls=off")
    mailing = post.mailing(SmtpMailer(url))
    for _ in range(5):
        await send_due(mailing)
        await post.be_due()
    rows = await post.rows()
    assert {(row["status"], row["refusals"]) for row in rows} == {("queued", 0)}
    assert mailing._breaker.state == "open"
    assert sum(row["attempt"] for row in rows) <= 8
    url._value = f"smtp://127.0.0.1:{server.port}?tls=off"
    async with running(post.mailing(SmtpMailer(url))):
        await wait_until(lambda: all_are(post, "sent"), what="all e-mails sent")
    assert len(server.mails) == 20


async def test_a_server_that_may_be_back_is_asked_with_one_email_first(post: Post, server: SmtpStub) -> None:
    url, answer, seconds = Secret("smtp://127.0.0.1:1?tls=off"), asyncio.Event(), [0.0]
    await post.ask(12)
    mailing = post.mailing(SmtpMailer(url))
    mailing._breaker = Breaker("mail", is_failure=lambda error: isinstance(error, Away), clock=lambda: seconds[0])
    await send_due(mailing)
    await post.be_due()
    assert await send_due(mailing) == 0
    seconds[0] += 60.0
    url._value, server.before_data = f"smtp://127.0.0.1:{server.port}?tls=off", answer.wait
    async with asyncio.TaskGroup() as group:
        assert await mailing.begin_due(group) == 1
        await wait_until(lambda: server.mails, what="the first at the server")
        assert await mailing.begin_due(group) == 0
        answer.set()
    assert await send_due(mailing) == emails.PLACES


async def test_a_slow_email_that_is_asked_with_first_holds_up_no_other(
    post: Post, server: SmtpStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emails, "PROBE_SECONDS", 0.1)
    url, answer, seconds = Secret("smtp://127.0.0.1:1?tls=off"), asyncio.Event(), [0.0]
    await post.ask(12)
    mailing = post.mailing(SmtpMailer(url))
    mailing._breaker = Breaker("mail", is_failure=lambda error: isinstance(error, Away), clock=lambda: seconds[0])
    await send_due(mailing)
    await post.be_due()
    seconds[0] += 60.0
    url._value, server.before_data = f"smtp://127.0.0.1:{server.port}?tls=off", answer.wait
    async with asyncio.TaskGroup() as group:
        assert await mailing.begin_due(group) == 1
        await wait_until(lambda: mailing._breaker.state == "closed", what="the switch closed")
        assert await mailing.begin_due(group) == emails.PLACES - 1
        answer.set()
    assert (await post.statuses()).count("sent") == emails.PLACES


def test_a_probe_is_not_passed_while_its_server_may_still_be_away() -> None:
    assert smtp.CALL_SECONDS + smtp.QUIT_SECONDS < emails.PROBE_SECONDS < smtp.DATA_SECONDS
    assert sendgrid.CALL_SECONDS < emails.PROBE_SECONDS


@pytest.mark.parametrize("step", ["renew", "settle"])
async def test_a_bug_around_one_email_cancels_no_other_and_its_lease_goes_on(
    *, post: Post, server: SmtpStub, mailer: SmtpMailer, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    real, failing = getattr(store, step), itertools.chain([True], itertools.repeat(False))

    async def fail_once(*given: Any) -> Any:
        if next(failing):
            raise ValueError(ADDRESS)
        return await real(*given)

    monkeypatch.setattr(store, step, fail_once)
    await post.ask(4)
    mailing = post.mailing(mailer)
    with capture_logs() as logs:
        assert await send_due(mailing) == 4
    assert sorted(await post.statuses()) == ["sending", "sent", "sent", "sent"]
    (told,) = [each for each in logs if each["event"] == "email_not_settled"]
    assert told["log_level"] == "error"
    await post.be_due()
    assert await send_due(mailing) == 1
    assert await all_are(post, "sent")


async def test_what_nobody_took_in_time_is_not_sent_any_more(post: Post, server: SmtpStub, mailer: SmtpMailer) -> None:
    await post.ask(expires_at=clock.now() - timedelta(seconds=1))
    server.answers = {"RCPT": ["451 later"]}
    await post.ask()
    mailing = post.mailing(mailer)
    await send_due(mailing)
    await post.be_due()
    async with post.world.database.across_churches() as tx:
        await tx.execute(EXPIRE)
    await send_due(mailing)
    assert await post.statuses() == ["expired", "expired"]
    assert [row["email_ciphertext"] for row in await post.rows()] == [None, None]
    assert server.mails == []


async def test_what_this_process_cannot_read_waits_for_one_that_can(
    post: Post, server: SmtpStub, mailer: SmtpMailer
) -> None:
    await post.ask()
    await post.ask(template="of-tomorrow")
    foreign = Keys.parse(
        **{**KEY_SETTINGS, "encryption_keys": KEY_SETTINGS["encryption_keys"].replace("test", "other")}
    )
    await send_due(post.mailing(mailer, keys=foreign))
    assert [(row["status"], row["refusals"]) for row in await post.rows()] == [("queued", 0)] * 2
    await post.be_due()
    await send_due(post.mailing(mailer))
    assert sorted(await post.statuses()) == ["queued", "sent"]
    assert len(server.mails) == 1


async def test_an_erased_churchs_emails_are_deleted_and_not_sent_any_more(
    *, post: Post, server: SmtpStub, mailer: SmtpMailer, tmp_path: Path, database_urls: DatabaseUrls
) -> None:
    archives = Archives(Directory(tmp_path), await database_urls("delivery"))
    server.answers = {"RCPT": ["550 no", "451 later"]}
    await post.ask(2)
    await send_due(post.mailing(mailer))
    await post.ask()
    (claimed,) = await post.claim()
    later = clock.now() + timedelta(minutes=1)
    for church_id, left in ((new_id(), 3), (post.world.church_id, 0)):
        await erasing.delete_older(post.world.database, archives, [church_id], clock.now() - timedelta(days=1))
        await erasing.delete_older(post.world.database, archives, [church_id], later)
        assert len(await post.rows()) == left
    await post.mailing(mailer)._send(claimed)
    assert server.mails == []


async def test_rows_go_some_days_after_their_end_and_open_ones_stay(post: Post, mailer: SmtpMailer) -> None:
    await post.ask(2)
    await send_due(post.mailing(mailer))
    await post.ask()
    async with post.world.database.across_churches() as tx:
        await tx.execute(AGE, timedelta(days=emails.KEPT_DAYS - 1))
    await emails.forget_old(post.world.database)
    assert sorted(await post.statuses()) == ["queued", "sent", "sent"]
    async with post.world.database.across_churches() as tx:
        await tx.execute(AGE, timedelta(days=1))
    await emails.forget_old(post.world.database)
    assert await post.statuses() == ["queued"]


async def test_the_mail_servers_password_changes_under_load_without_an_error(post: Post, tmp_path: Path) -> None:
    certified, file = certificate(tmp_path), tmp_path / "url"
    async with smtp_server(server_context(certified)) as server:

        def url(password: str) -> str:
            return f"smtp://{USER}:{password}@127.0.0.1:{server.port}?cafile={certified}"

        def replace(content: str) -> None:
            (tmp_path / "draft").write_text(content)
            os.replace(tmp_path / "draft", file)

        async def sent_some_more() -> None:
            await post.ask(5)
            await wait_until(lambda: all_are(post, "sent"), what="all e-mails sent")

        server.passwords = {"old"}
        replace(url("old"))
        looks = itertools.count()  # each a second after the last
        secret = Secret(url("old"), file=file, clock=lambda: float(next(looks)))
        secret.check_by(SmtpServer.parse)
        async with running(post.mailing(SmtpMailer(secret))):
            await sent_some_more()
            server.passwords = {"old", "new"}
            for content in ("", "garbage", url("new")):
                replace(content)
                await sent_some_more()
            server.passwords = {"new"}
            await sent_some_more()
    assert set(server.logins) == {"right"}
    assert {row["attempt"] for row in await post.rows()} == {1}
    assert len(server.mails) == 25


# The processes.


async def test_the_service_stores_and_its_worker_sends(
    start_service: StartService, post: Post, bus: BusProbe, tmp_path: Path
) -> None:
    given = {"telnyx_api_key": "key", "public_url": "https://koinonia.example", "mail_dir": str(tmp_path / "mail")}
    await start_service("delivery", app.build, DeliverySettings, **given)
    await start_service("delivery", worker.build, WorkerSettings, **given)
    wish = post.wish()
    await bus.publish(wish, post.world.church_id)

    async def written() -> bool:
        return (tmp_path / "mail" / f"{wish.email_id}.eml").exists() and await all_are(post, "sent")

    await wait_until(written, what="a file for the e-mail")
    text = (tmp_path / "mail" / f"{wish.email_id}.eml").read_text()
    assert "From: Koinonia <no-reply@koinonia.example>" in text


def test_in_production_the_worker_wants_to_be_told_where_emails_go() -> None:
    given = msgspec.structs.asdict(settings_for(environment="production"))
    with pytest.raises(SettingsError, match="KOINONIA_SMTP_URL or KOINONIA_SENDGRID_API_KEY: in production"):
        WorkerSettings(**given)
    for way in ({"smtp_url": Secret("smtps://x")}, {"sendgrid_api_key": Secret("SG.x")}, {"mail_dir": "/var/mail"}):
        assert WorkerSettings(**{**given, **way}).environment == "production"
    assert isinstance(WorkerSettings(**{**given, "environment": "development"}).mailer(), FolderMailer)


def test_settings_name_one_way_and_one_sender() -> None:
    assert isinstance(settings_for().mailer(), FolderMailer)
    assert settings_for(public_url="http://127.0.0.1:8080").mail_sender == ("Koinonia", "no-reply@koinonia.invalid")
    assert settings_for(mail_from="Grace <hi@grace.example>").mail_sender == ("Grace", "hi@grace.example")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"smtp_url": "smtp://a:secret@mail.example", "sendgrid_api_key": "SG.x"}, "exclude each other"),
        ({"smtp_url": "http://a:secret@mail.example"}, "KOINONIA_SMTP_URL: expected smtp://host or smtps://host"),
        ({"smtp_url": "smtp://mail.example?tls=off", "environment": "production"}, "must be reached by TLS"),
        ({"sendgrid_api_url": "http://x", "environment": "production"}, "KOINONIA_SENDGRID_API_URL: .*TLS"),
        ({"telnyx_api_url": "http://x", "environment": "production"}, "KOINONIA_TELNYX_API_URL: .*TLS"),
        ({"mail_from": "nobody"}, "KOINONIA_MAIL_FROM: expected an address"),
    ],
)
def test_wrong_settings_are_refused_in_a_line_without_a_secret(given: dict[str, str], complaint: str) -> None:
    secrets = {name: Secret(value) for name, value in given.items() if name in {"smtp_url", "sendgrid_api_key"}}
    with pytest.raises(SettingsError, match=complaint) as raised:
        settings_for(**{**given, **secrets})
    assert "secret" not in str(raised.value)
