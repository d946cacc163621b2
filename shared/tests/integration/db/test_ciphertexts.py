"""Stored ciphertexts made anew under the newest key: all of them, of every church, and of nobody else's by mistake."""

import base64
from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from koinonia import clock
from koinonia.db import ciphertexts
from koinonia.db.ciphertexts import Table, TableHidden, count_by_older_key, list_tables, reencrypt
from koinonia.db.migrate import migrate
from koinonia.db.roles import SERVICES
from koinonia.ids import new_id
from koinonia.security.encryption import Cipher, CiphertextInvalid
from koinonia.security.keyring import Keyring
from koinonia.testing.databases import DatabaseUrls
from koinonia.testing.servers import TestServers

Connection = asyncpg.Connection


def key(id: str, byte: int) -> str:
    return f"{id}:{base64.b64encode(bytes([byte]) * 32).decode()}"


OLD = Cipher(Keyring.parse(key("old", 1), "KEYS"))
BOTH = Cipher(Keyring.parse(f"{key('new', 2)},{key('old', 1)}", "KEYS"))
NEW = Cipher(Keyring.parse(key("new", 2), "KEYS"))
CHURCHES = (new_id(), new_id())

INSERT = """
INSERT INTO delivery.recipients (
    id, church_id, source_id, kind, status, segments, encoding, member_ids, phone_index, phone_ciphertext, text,
    media_urls, settled_at
)
SELECT id, church_id, id, 'reply', 'failed', 1, 'GSM-7', '{}', 'x', phone, 'hello', '{}', now()
FROM unnest($1::uuid[], $2::uuid[], $3::bytea[]) AS made (id, church_id, phone)
"""


@pytest.fixture
async def connection(database_urls: DatabaseUrls, servers: TestServers) -> "AsyncIterator[Connection[asyncpg.Record]]":
    """An administrator's, to delivery's tables."""
    url = await database_urls("delivery")
    connection = await asyncpg.connect(servers.database_url(url.rpartition("/")[2].partition("?")[0]))
    yield connection
    await connection.close()


async def plant(connection: "Connection[asyncpg.Record]", count: int) -> dict[UUID, tuple[UUID, str]]:
    """Recipients of two churches, this month's and next month's: id → church and phone."""
    later = (clock.now().replace(day=28)).timestamp() + 10 * 86_400
    people = {}
    for number in range(count):
        id = new_id() if number % 2 else UUID(int=(int(later * 1000) << 80) | (7 << 76) | (2 << 62) | number)
        people[id] = (CHURCHES[number % 3 % 2], f"+1312200{number:04}")
    sealed = [OLD.encrypt(phone, church, "phone") for church, phone in people.values()]
    await connection.execute(INSERT, list(people), [church for church, _ in people.values()], sealed)
    return people


async def phones(connection: "Connection[asyncpg.Record]", cipher: Cipher) -> dict[UUID, tuple[UUID, str]]:
    rows = await connection.fetch("SELECT id, church_id, phone_ciphertext FROM delivery.recipients")
    return {
        row["id"]: (row["church_id"], cipher.decrypt(row["phone_ciphertext"], row["church_id"], "phone"))
        for row in rows
    }


async def test_every_table_with_ciphertexts_is_known(servers: TestServers) -> None:
    name = servers.new_name()
    await servers.create_database(name)
    try:
        await migrate(servers.database_url(name))
        connection = await asyncpg.connect(servers.database_url(name))
        found = {str(table): (table.columns, table.key_names) for table in await list_tables(connection, SERVICES)}
        await connection.close()
    finally:
        await servers.drop_database(name)
    assert found == {
        "compliance.opt_outs": (("phone_ciphertext",), ("church_id", "phone_index")),
        "conversation.conversations": (("phone_ciphertext",), ("id",)),
        "delivery.emails": (("email_ciphertext", "fields_ciphertext"), ("id",)),
        "delivery.recipients": (("phone_ciphertext",), ("id",)),
        "gateway.admins": (("email_ciphertext",), ("id",)),
        "gateway.own_phones": (("phone_ciphertext",), ("admin_id",)),
        "gateway.phone_codes": (("phone_ciphertext",), ("admin_id",)),
        "gateway.totp_factors": (("totp_secret_ciphertext",), ("admin_id",)),
        "messaging.import_pieces": (("rows_ciphertext",), ("import_id", "place")),
        "messaging.members": (("phone_ciphertext", "email_ciphertext"), ("id",)),
    }


async def recipients(connection: "asyncpg.Connection[asyncpg.Record]") -> Table:
    return next(each for each in await list_tables(connection, ["delivery"]) if each.name == "recipients")


async def test_every_row_of_every_church_and_partition_is_made_anew_in_batches(
    connection: "Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ciphertexts, "BATCH", 7)
    people = await plant(connection, 40)
    partitions = await connection.fetchval("SELECT count(DISTINCT tableoid) FROM delivery.recipients")
    assert partitions == 2
    table = await recipients(connection)
    assert await count_by_older_key(connection, table, BOTH.newest_header) == {"old": 40}
    outcome = await reencrypt(connection, table, BOTH)
    assert (outcome.changed, outcome.unreadable) == (40, [])
    assert await phones(connection, NEW) == people
    with pytest.raises(CiphertextInvalid):
        await phones(connection, OLD)
    assert await count_by_older_key(connection, table, BOTH.newest_header) == Counter()
    assert (await reencrypt(connection, table, BOTH)).changed == 0


async def test_what_was_broken_off_is_taken_up_and_a_row_that_somebody_holds_is_left_for_later(
    connection: "Connection[asyncpg.Record]", servers: TestServers
) -> None:
    people = await plant(connection, 6)
    done, held, *_ = people
    church, phone = people[done]
    renewed = NEW.encrypt(phone, church, "phone")
    await connection.execute("UPDATE delivery.recipients SET phone_ciphertext = $2 WHERE id = $1", done, renewed)
    table = await recipients(connection)
    name = await connection.fetchval("SELECT current_database()")
    other = await asyncpg.connect(servers.database_url(name))
    try:
        async with other.transaction():
            await other.execute("SELECT FROM delivery.recipients WHERE id = $1 FOR UPDATE", held)
            assert (await reencrypt(connection, table, BOTH)).changed == 4  # without waiting
        assert await count_by_older_key(connection, table, BOTH.newest_header) == {"old": 1}
    finally:
        await other.close()
    assert (await reencrypt(connection, table, BOTH)).changed == 1
    assert await phones(connection, NEW) == people
    kept = await connection.fetchval("SELECT phone_ciphertext FROM delivery.recipients WHERE id = $1", done)
    assert kept == renewed


async def test_what_does_not_open_is_left_as_it_is_and_named(connection: "Connection[asyncpg.Record]") -> None:
    people = await plant(connection, 4)
    moved, foreign, *_ = people
    gone = Cipher(Keyring.parse(key("gone", 3), "KEYS"))
    church, phone = people[moved]
    elsewhere = next(each for each in CHURCHES if each != church)
    planted = {
        moved: OLD.encrypt(phone, elsewhere, "phone"),
        foreign: gone.encrypt(people[foreign][1], people[foreign][0], "phone"),
    }
    change = "UPDATE delivery.recipients SET phone_ciphertext = $2 WHERE id = $1"
    await connection.executemany(change, list(planted.items()))
    table = await recipients(connection)
    outcome = await reencrypt(connection, table, BOTH)
    assert outcome.changed == 2
    assert set(outcome.unreadable) == {(moved,), (foreign,)}
    rows = await connection.fetch(
        "SELECT id, phone_ciphertext FROM delivery.recipients WHERE id = ANY ($1)", list(planted)
    )
    assert {row["id"]: row["phone_ciphertext"] for row in rows} == planted
    assert await count_by_older_key(connection, table, BOTH.newest_header) == {"old": 1, "gone": 1}


async def test_a_table_that_hides_its_rows_is_not_passed_over(connection: "Connection[asyncpg.Record]") -> None:
    month = await connection.fetchval(
        "SELECT min(inhrelid::regclass::text) FROM pg_inherits JOIN pg_class "
        "ON pg_class.oid = inhparent WHERE relname = 'recipients' AND relkind = 'p'"
    )
    await connection.execute(f"ALTER TABLE delivery.recipients DETACH PARTITION {month}")
    with pytest.raises(TableHidden, match=f"{month} holds ciphertexts"):
        await list_tables(connection, ["delivery"])
