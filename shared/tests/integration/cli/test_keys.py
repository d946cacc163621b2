"""``koinonia keys rotate``: an older key is said to be free only when nothing needs it, wherever that lies."""

import asyncio
import base64
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import aio_pika
import asyncpg
import pytest
from yarl import URL

from koinonia import clock
from koinonia.bus.declare import DEAD_EXCHANGE, delay_exchange
from koinonia.bus.errors import QueueMissing
from koinonia.cli import control, keys
from koinonia.cli.main import CommandFailed
from koinonia.cli.places import Places
from koinonia.cli.queue_counts import LAG_SECONDS
from koinonia.db.migrate import migrate
from koinonia.events import Envelope, encode
from koinonia.events.conversation import ReplyRequested
from koinonia.ids import new_id
from koinonia.security.encryption import Cipher
from koinonia.security.keyring import Keyring
from koinonia.servers import ServersUnavailable
from koinonia.testing.servers import TestServers


def key(id: str, byte: int) -> str:
    return f"{id}:{base64.b64encode(bytes([byte]) * 32).decode()}"


KEYRING = Keyring.parse(f"{key('new', 2)},{key('old', 1)}", keys.SETTING)
CIPHER, OLD = Cipher(KEYRING), Cipher(Keyring.parse(key("old", 1), keys.SETTING))
CHURCH = new_id()


def event(cipher: Cipher) -> tuple[UUID, bytes]:
    """An event that carries a phone."""
    data = ReplyRequested(
        conversation_id=new_id(),
        reply_id=new_id(),
        number_id=None,
        member_id=None,
        phone_index=bytes(16),
        phone_ciphertext=cipher.encrypt("+13122000001", CHURCH, "phone"),
        content="Hello",
        media_urls=(),
        requested_at=clock.now(),
    )
    id = new_id()
    return id, encode(Envelope(id=id, time=clock.now(), data=data, church_id=CHURCH, service="conversation"))


@pytest.fixture(scope="module")
async def database_url(servers: TestServers) -> AsyncIterator[str]:
    """With the tables of all services."""
    name = servers.new_name()
    await servers.create_database(name)
    await migrate(servers.database_url(name))
    yield servers.database_url(name)
    await servers.drop_database(name)


@pytest.fixture
def places(database_url: str, vhost: str, servers: TestServers) -> Places:
    """Where the command finds them, as its administrator."""
    return Places(database_url, vhost, servers.management_url, None)


@pytest.fixture
def _counted_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests whose queues hold nothing: no count is waited for."""
    monkeypatch.setattr(keys, "LAG_SECONDS", 0.0)


def test_ciphertexts_are_found_in_an_event_by_the_id_of_their_key() -> None:
    assert keys.older_keys_in(event(OLD)[1], CIPHER) == {"old": 1}
    assert keys.older_keys_in(event(CIPHER)[1], CIPHER) == Counter()


@pytest.mark.usefixtures("_counted_now")
async def test_a_key_is_free_when_tables_events_and_dead_letters_are_without_it(
    database_url: str, vhost: str, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    database = await asyncpg.connect(database_url)
    opt_out = "INSERT INTO compliance.opt_outs VALUES ($1, 'x', $2, 'opted_out', now(), $1, 1)"
    await database.execute(opt_out, CHURCH, OLD.encrypt("+13122000001", CHURCH, "phone"))
    waiting = {
        "outbox": "INSERT INTO conversation.outbox (id, church_id, type, body) VALUES ($1, $2, 'x', $3)",
        "parked": "INSERT INTO delivery.parked (event_id, church_id, queue, fact_key, body) "
        "VALUES ($1, $2, 'delivery.texts', 'x', $3)",
    }
    for statement in waiting.values():
        id, body = event(OLD)
        await database.execute(statement, id, CHURCH, body)
    async with await aio_pika.connect(vhost) as connection:
        channel = await connection.channel()
        dead = await channel.get_exchange(DEAD_EXCHANGE)
        await dead.publish(aio_pika.Message(event(OLD)[1]), "delivery.texts")

        found = await keys._rotate(places, CIPHER, 30)
        assert found.changed["compliance.opt_outs"] == 1
        assert {place: counts for place, counts in found.remaining.items() if counts} == {
            "conversation.outbox": {"old": 1},
            "delivery.parked": {"old": 1},
            "dead letters of delivery.texts": {"old": 1},
        }
        assert not keys._tell(found, KEYRING)
        said = capsys.readouterr().out
        assert "compliance.opt_outs: 1 re-encrypted" in said
        assert "dead letters of delivery.texts: 1 under old" in said
        assert "any more" not in said

        await database.execute("DELETE FROM conversation.outbox")
        await database.execute("DELETE FROM delivery.parked")
        await (await channel.declare_queue("delivery.texts.dead", passive=True)).purge()
        found = await keys._rotate(places, CIPHER, 30)
        assert keys._tell(found, KEYRING)
        said = capsys.readouterr().out
        assert f"nothing is under old any more: take it out of {keys.SETTING} and reload" in said
    await database.close()


async def test_events_that_wait_in_a_queue_are_told(
    vhost: str, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    async with await aio_pika.connect(vhost) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(event(OLD)[1]), "delivery.texts")
        found = await keys._rotate(places, CIPHER, 0)
        assert found.waiting == {"delivery.texts": 1}
        assert not keys._tell(found, KEYRING)
        said = capsys.readouterr().out
        assert "\ndelivery.texts: 1 waiting or being handled\nthe keys of events on their way cannot be seen" in said
        assert "any more" not in said


def test_queues_of_events_with_ciphertexts_are_waited_for() -> None:
    assert set(keys._SEALED) == {
        "delivery.chunks",
        "delivery.texts",
        "delivery.consents",
        "delivery.holds",
        "delivery.emails",
        "conversation.contacts",
        "conversation.inbound",
        "compliance.inbound",
    }


async def test_events_that_carry_no_ciphertext_are_not_waited_for(vhost: str, places: Places) -> None:
    async with await aio_pika.connect(vhost) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(b"{}"), "billing.usage")
        assert (await keys._rotate(places, CIPHER, 30)).waiting == {}


async def test_an_event_in_the_hands_of_its_consumer_is_waited_for(
    vhost: str, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    async with await aio_pika.connect(vhost) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(event(OLD)[1]), "delivery.texts")
        held = await (await channel.get_queue("delivery.texts")).get()
        rotating = asyncio.create_task(keys._rotate(places, CIPHER, 60))
        assert not (await asyncio.wait([rotating], timeout=LAG_SECONDS + 2))[0]
        await held.ack()
        found = await rotating
        assert found.waiting == {}
        assert keys._tell(found, KEYRING)
        assert "nothing is under old any more" in capsys.readouterr().out


async def test_an_event_that_goes_to_and_fro_between_its_queue_and_a_delay_is_not_overlooked(
    vhost: str, places: Places
) -> None:
    gone = asyncio.Event()
    async with await aio_pika.connect(vhost) as connection:
        channel = await connection.channel(publisher_confirms=True)
        queue, delay = await channel.get_queue("delivery.texts"), await channel.get_exchange(delay_exchange(1))

        async def fail(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            await asyncio.sleep(0.3)  # so that some looks find it in no delay
            if not gone.is_set():
                await delay.publish(aio_pika.Message(message.body), "delivery.texts")
            await message.ack()

        await channel.default_exchange.publish(aio_pika.Message(event(OLD)[1]), "delivery.texts")
        await queue.consume(fail)
        rotating = asyncio.create_task(keys._rotate(places, CIPHER, 60))
        assert not (await asyncio.wait([rotating], timeout=LAG_SECONDS + 2))[0]
        gone.set()
        assert (await rotating).waiting == {}


async def test_events_that_are_held_back_after_a_failure_are_told(
    vhost: str, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "LAG_SECONDS", 0.5)
    async with await aio_pika.connect(vhost) as connection:
        channel = await connection.channel()
        delay = await channel.get_exchange(delay_exchange(4))
        await delay.publish(aio_pika.Message(event(OLD)[1]), "delivery.texts")
        assert (await keys._rotate(places, CIPHER, 0)).waiting == {delay_exchange(4): 1}


@pytest.mark.usefixtures("_counted_now")
async def test_who_does_not_wait_learns_that_a_key_is_free_from_queues_that_are_empty(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    found = await keys._rotate(places, CIPHER, 0)
    assert keys._tell(found, KEYRING)
    assert "nothing is under old any more" in capsys.readouterr().out


@pytest.mark.usefixtures("_counted_now")
async def test_no_key_is_free_while_rounds_find_rows_under_it(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def changes(*_: object) -> int:
        return 1

    monkeypatch.setattr(keys, "_round", changes)
    found = await keys._rotate(places, CIPHER, 0)
    assert not found.waiting
    assert not keys._tell(found, KEYRING)
    said = capsys.readouterr().out
    assert "rows under an older key were still being found; call this again\n" in said
    assert "any more" not in said


@pytest.mark.parametrize(
    ("management_url", "complaint"),
    [
        ("http://guest:guest@127.0.0.1:1", "KOINONIA_AMQP_MANAGEMENT_URL: Cannot connect to host 127\\.0\\.0\\.1:1 .*"),
        ("no-url", "KOINONIA_AMQP_MANAGEMENT_URL: it is not RabbitMQ's management API"),
        (None, "KOINONIA_AMQP_MANAGEMENT_URL: it answers 401 Unauthorized"),
    ],
)
async def test_a_management_api_that_cannot_be_asked_is_one_line(
    places: Places, management_url: str | None, complaint: str
) -> None:
    wrong = management_url or str(URL(places.management_url or "").with_password("wrong-secret"))
    with pytest.raises(ServersUnavailable, match=rf"^{complaint}$") as failed:
        await keys._rotate(replace(places, management_url=wrong), CIPHER, 0)
    assert "secret" not in str(failed.value)


async def test_a_queue_that_is_missing_is_named(database_url: str, empty_vhost: str, servers: TestServers) -> None:
    bare = Places(database_url, empty_vhost, servers.management_url, None)
    with pytest.raises(QueueMissing, match=r"^there is no queue gateway\.projections$"):
        await keys._rotate(bare, CIPHER, 0)


async def test_a_platform_that_encrypts_under_another_key_is_to_be_reloaded_first(tmp_path: Path) -> None:
    async def newest() -> AsyncIterator[str]:
        yield "old"

    await keys._check_running(tmp_path / "control", "new")  # none runs there
    with socket.socket(socket.AF_UNIX) as left:  # as a killed one leaves it
        left.bind(str(tmp_path / "control"))
    await keys._check_running(tmp_path / "control", "new")
    async with control.answering(tmp_path / "control", {control.NEWEST_KEY: newest}):
        await keys._check_running(tmp_path / "control", "old")
        with pytest.raises(CommandFailed, match=r"encrypts under old, not under new: reload it first"):
            await keys._check_running(tmp_path / "control", "new")
