"""``koinonia keys rotate``: an older key is said to be free only when nothing needs it, wherever that lies."""

import base64
import socket
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import aio_pika
import asyncpg
import pytest

from koinonia import clock
from koinonia.bus.declare import DEAD_EXCHANGE, delay_exchange
from koinonia.cli import control, keys
from koinonia.cli.main import CommandFailed
from koinonia.db.migrate import migrate
from koinonia.events import Envelope, encode
from koinonia.events.conversation import ReplyRequested
from koinonia.ids import new_id
from koinonia.security.encryption import Cipher
from koinonia.security.keyring import Keyring
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


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "SETTLE_SECONDS", 0.0)


def test_ciphertexts_are_found_in_an_event_by_the_id_of_their_key() -> None:
    assert keys.older_keys_in(event(OLD)[1], CIPHER) == {"old": 1}
    assert keys.older_keys_in(event(CIPHER)[1], CIPHER) == Counter()


async def test_a_key_is_free_when_tables_events_and_dead_letters_are_without_it(
    database_url: str, vhost: str, capsys: pytest.CaptureFixture[str]
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

        found = await keys._rotate(database_url, vhost, CIPHER, 30)
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
        found = await keys._rotate(database_url, vhost, CIPHER, 30)
        assert keys._tell(found, KEYRING)
        said = capsys.readouterr().out
        assert f"nothing is under old any more: take it out of {keys.SETTING} and reload" in said
    await database.close()


@pytest.mark.parametrize("wait_seconds", [0, 0.5])
@pytest.mark.parametrize("where", ["delivery.texts", delay_exchange(4)])
async def test_events_that_wait_in_a_queue_are_waited_for_and_told(
    database_url: str, vhost: str, where: str, wait_seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    async with await aio_pika.connect(vhost) as connection:
        channel = await connection.channel()
        name = "delivery.texts" if where == "delivery.texts" else None
        exchange = channel.default_exchange if name else await channel.get_exchange(where)
        await exchange.publish(aio_pika.Message(event(OLD)[1]), "delivery.texts")
        found = await keys._rotate(database_url, vhost, CIPHER, wait_seconds)
        assert "delivery.texts" in found.waiting
        assert not keys._tell(found, KEYRING)
        assert "any more" not in capsys.readouterr().out


async def test_who_does_not_wait_learns_that_a_key_is_free_from_queues_that_are_empty(
    database_url: str, vhost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = await keys._rotate(database_url, vhost, CIPHER, 0)
    assert keys._tell(found, KEYRING)
    assert "nothing is under old any more" in capsys.readouterr().out


async def test_no_key_is_free_while_rounds_find_rows_under_it(
    database_url: str, vhost: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def changes(*_: object) -> int:
        return 1

    monkeypatch.setattr(keys, "_round", changes)
    found = await keys._rotate(database_url, vhost, CIPHER, 0)
    assert not found.waiting
    assert not keys._tell(found, KEYRING)
    said = capsys.readouterr().out
    assert "rows under an older key were still being found; call this again\n" in said
    assert "any more" not in said


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
