"""Months are archived whole or not at all, wherever a run is broken off, and come back as they were."""

import asyncio
import base64
import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg
import msgspec
import pytest
from moto.server import ThreadedMotoServer

from koinonia import clock
from koinonia.cli import keys
from koinonia.cli.keys import Found
from koinonia.db import archiving, ciphertexts
from koinonia.db import migrate as runner
from koinonia.db.archives import Archive, ArchiveDamaged, Archives
from koinonia.db.archiving import Archivist, NoSuchPartition, RowsOpen
from koinonia.db.roles import SERVICES
from koinonia.files import Directory, Files, FileSettings, FilesUnavailable, open_files
from koinonia.ids import derived_id, new_id
from koinonia.security.encryption import Cipher
from koinonia.security.keyring import Keyring
from koinonia.settings import SettingsError
from koinonia.testing import catalogue
from koinonia.testing.servers import TestServers

Connection = asyncpg.Connection
PHONE = "+13122000001"
ROWS = "SELECT row_to_json(recipients)::text FROM delivery.recipients ORDER BY id"
PROBLEMS = "SELECT source_id, status, id, church_id FROM delivery.problems ORDER BY id"
STORE = """
INSERT INTO delivery.recipients (
    id, church_id, source_id, kind, status, segments, encoding, number_id, member_ids, phone_index, phone_ciphertext,
    text, media_urls, error_message, accepted_at, sent_at, delivered_at, settled_at
)
VALUES (
    $1, $2, $3, 'broadcast', $4, 1, 'GSM-7', $3, ARRAY[$3::uuid], '\\x00ff'::bytea, $5,
    E'Grüße, "Ann\\\\a"\\n€', '{a,b}', NULL, now(), now(),
    CASE $4 WHEN 'delivered' THEN now() END, CASE WHEN $4 <> 'sent' THEN now() END
)
"""


def key(id: str, byte: int) -> str:
    return f"{id}:{base64.b64encode(bytes([byte]) * 32).decode()}"


OLD = Cipher(Keyring.parse(key("old", 1), "KEYS"))
BOTH = Cipher(Keyring.parse(f"{key('new', 2)},{key('old', 1)}", "KEYS"))
NEW = Cipher(Keyring.parse(key("new", 2), "KEYS"))


@pytest.fixture(scope="module")
async def bucket() -> AsyncIterator[FileSettings]:
    """A bucket of a server that speaks S3's wire protocol."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    async with aiohttp.ClientSession() as session, session.put(f"{url}/koinonia") as answer:
        assert answer.status == 200
    yield FileSettings(s3_url=url, s3_bucket="koinonia", s3_access_key_id="id", s3_secret_access_key="secret")
    server.stop()


class Old:
    """A database whose last month holds rows, and the files beside it."""

    def __init__(self, admin_url: str, connection: "Connection[asyncpg.Record]", files: Files) -> None:
        self.admin_url = admin_url
        self.connection = connection
        self.files = files
        self.archives = Archives(files, admin_url)
        self.archivist = Archivist(admin_url, self.archives)
        self.church_id = new_id()
        self.month = (clock.now().replace(day=1) - timedelta(days=2)).replace(hour=0)
        self.name = f"delivery.recipients_{self.month:%Y_%m}"

    async def store(self, status: str, at: datetime | None = None) -> UUID:
        id = derived_id(at or self.month, new_id().bytes)
        sealed = OLD.encrypt(PHONE, self.church_id, "phone")
        await self.connection.execute(STORE, id, self.church_id, new_id(), status, sealed)
        return id

    async def rows(self) -> list[str]:
        return [row[0] for row in await self.connection.fetch(ROWS)]

    async def problems(self) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.connection.fetch(PROBLEMS)]

    async def tables(self) -> set[str]:
        query = "SELECT relname FROM pg_class WHERE relnamespace = 'delivery'::regnamespace AND relkind = 'r'"
        return {row["relname"] for row in await self.connection.fetch(query)}

    async def archive_all(self) -> list[Archive]:
        """Archive what is due; answers what became of recipients."""
        return self.of_recipients(await self.archivist.archive_due(["delivery"], clock.now()))

    @staticmethod
    def of_recipients(archives: list[Archive]) -> list[Archive]:
        return [each for each in archives if each.table == "recipients"]

    @property
    def trail(self) -> str:
        """The month's partition of the trail, which goes after it and is back before it."""
        return self.name.replace("recipients", "trail")


@pytest.fixture(scope="module")
async def template(servers: TestServers) -> AsyncIterator[str]:
    name = servers.new_name()
    await servers.create_database(name)
    await runner.migrate(servers.database_url(name))
    yield name
    await servers.drop_database(name)


@pytest.fixture
async def old(servers: TestServers, template: str, tmp_path: Path) -> AsyncIterator[Old]:
    name = servers.new_name()
    await servers.create_database(name, template)
    connection = await asyncpg.connect(servers.database_url(name))
    made = Old(servers.database_url(name), connection, Directory(tmp_path / "files"))
    for status in ("delivered", "failed", "delivered", "undelivered"):
        await made.store(status)
    await made.store("failed", clock.now())  # of this month, which stays
    yield made
    await connection.close()
    await servers.drop_database(name)


@pytest.mark.parametrize("kind", ["directory", "bucket"])
async def test_a_month_goes_to_a_file_and_comes_back_as_it_was(old: Old, kind: str, bucket: FileSettings) -> None:
    if kind == "bucket":
        old.archives = Archives(open_files(bucket, Path("/nowhere")), old.admin_url)
        old.archivist = Archivist(old.admin_url, old.archives)
    rows, problems = await old.rows(), await old.problems()
    assert (len(rows), len(problems)) == (5, 3)
    (archive,) = await old.archive_all()
    assert (archive.name, archive.rows, archive.key_ids) == (old.name, 4, ["old"])
    assert (len(await old.rows()), len(await old.problems())) == (1, 1)
    assert old.name.partition(".")[2] not in await old.tables()
    assert old.name.partition(".")[2].replace("recipients", "problems") not in await old.tables()
    assert await old.archive_all() == []
    found, archives = await old.archivist.look(["delivery"])
    assert old.name not in {each.name for each in found}
    assert [each.name for each in archives] == [old.name, old.trail]
    assert archives[0] == archive
    assert await old.archivist.restore(old.name) == archive
    assert (await old.rows(), await old.problems()) == (rows, problems)
    await old.archivist.drop(old.name)
    assert [each.name for each in await old.archives.list("delivery")] == [old.trail]


TOLD = "SELECT row_to_json(trail)::text FROM delivery.trail ORDER BY id, at"
TELL = """
INSERT INTO delivery.trail (id, at, what, church_id, was, became, attempt)
SELECT id, now(), 'receipt', church_id, 'sent', 'undelivered', 1 FROM delivery.recipients WHERE status <> 'delivered'
"""


async def test_a_trail_goes_after_its_recipients_and_is_back_before_them(old: Old) -> None:
    await old.connection.execute(TELL)
    told = await old.connection.fetch(TOLD)
    with pytest.raises(RowsOpen, match="recipients are still in their table"):
        await old.archivist.archive(old.trail)
    await old.store("sent")
    assert await old.archivist.archive_due(["delivery"], clock.now()) == []
    await old.connection.execute(
        "UPDATE delivery.recipients SET status = 'expired', settled_at = now() WHERE status = 'sent'"
    )
    made = await old.archivist.archive_due(["delivery"], clock.now())
    assert [(each.name, each.rows) for each in made] == [(old.name, 5), (old.trail, 2)]
    await old.archivist.restore(old.name)
    assert await old.connection.fetch(TOLD) == told
    assert await faults(old) == []


async def test_recipients_whose_trail_is_gone_come_back_with_an_empty_one(old: Old) -> None:
    await old.archive_all()
    await old.archivist.drop(old.trail)
    await old.archivist.restore(old.name)
    await old.connection.execute(TELL)
    assert len(await old.connection.fetch(TOLD)) == 3
    assert await faults(old) == []
    assert await old.archive_all() == []


async def test_what_was_read_back_is_a_part_of_its_table_like_any_other(old: Old) -> None:
    before = await old.connection.fetch(INDEXES, old.name)
    await old.archive_all()
    await old.archivist.restore(old.name)
    assert await faults(old) == []
    assert await old.connection.fetch(INDEXES, old.name) == before
    await old.connection.execute("UPDATE delivery.recipients SET status = 'expired' WHERE status = 'undelivered'")
    assert {row[1] for row in await old.problems()} == {"failed", "expired"}
    async with old.connection.transaction():
        await old.connection.execute("SET LOCAL ROLE koinonia_delivery")
        await old.connection.execute(f"SET LOCAL koinonia.church_id = '{new_id()}'")
        assert await old.rows() == []


async def faults(old: Old) -> list[str]:
    """What the catalogue finds. A clone of a database has its own rights, which no migration has taken back."""
    return [each for each in await catalogue.faults(old.connection) if not each.startswith("a right on the database")]


INDEXES = """
SELECT replace(indexdef, indexname, '') AS definition
FROM pg_indexes WHERE schemaname || '.' || tablename = $1 ORDER BY definition
"""


async def test_no_phone_stands_in_a_file_and_only_its_owner_can_read_it(old: Old, tmp_path: Path) -> None:
    (archive,) = await old.archive_all()
    path = tmp_path / "files" / archive.file
    text = gzip.decompress(path.read_bytes()).decode()
    assert PHONE not in text
    assert PHONE[1:] not in text
    rows = [msgspec.json.decode(line) for line in text.splitlines()]
    sealed = bytes.fromhex(rows[0]["phone_ciphertext"][2:])
    assert OLD.decrypt(sealed, old.church_id, "phone") == PHONE
    assert [folder.stat().st_mode & 0o077 for folder in (path, path.parent, path.parent.parent)] == [0, 0, 0]


async def test_a_month_with_an_open_row_stays(old: Old) -> None:
    await old.store("sent")
    assert await old.archive_all() == []
    with pytest.raises(RowsOpen, match="1 open rows"):
        await old.archivist.archive(old.name)
    assert len(await old.rows()) == 6


async def test_a_row_that_is_opened_again_at_the_last_moment_brings_its_month_back(
    old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    detach = archiving._detach

    async def open_and_detach(*arguments: Any) -> None:
        await old.connection.execute(
            "UPDATE delivery.recipients SET status = 'sent', settled_at = NULL WHERE status = 'failed'"
        )
        await detach(*arguments)

    before = len(await old.rows())
    monkeypatch.setattr(archiving, "_detach", open_and_detach)
    assert await old.archive_all() == []
    assert len(await old.rows()) == before
    monkeypatch.setattr(archiving, "_detach", detach)
    await old.connection.execute(
        "UPDATE delivery.recipients SET status = 'unconfirmed', settled_at = now() WHERE status = 'sent'"
    )
    assert len(await old.archive_all()) == 1


class Killed(Exception):
    """The process ended here."""


BREAKS = {
    "when it is detached": ("_refuse_open", 1),
    "before its file is there": ("put", 0),
    "before its manifest is there": ("put", 1),
    "before what was made from it goes": ("_drop", 0),
    "before it goes itself": ("_execute_drop", 0),
}


@pytest.mark.parametrize("what", BREAKS)
async def test_a_run_that_is_broken_off_anywhere_is_taken_up_by_the_next(
    old: Old, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    place, passes = BREAKS[what]
    rows, problems = await old.rows(), await old.problems()
    with monkeypatch.context() as broken:
        _break(broken, old, place, passes)
        with pytest.raises(Killed):
            await old.archive_all()
    assert len(await old.rows()) == 1
    (archive,) = await old.archive_all()
    assert archive.rows == 4
    names = {each for each in await old.files.names("archives/") if "/recipients_" in each}
    assert names == {archive.file, archive.manifest}
    assert {each for each in await old.tables() if each.endswith(f"{old.month:%Y_%m}")} == set()
    await old.archivist.restore(old.name)
    assert (await old.rows(), await old.problems()) == (rows, problems)


def _break(broken: pytest.MonkeyPatch, old: Old, place: str, passes: int) -> None:
    """Let the process end at the first call after so many, before it does anything."""
    target: Any = old.files if place == "put" else archiving
    whole = getattr(target, place)
    left = passes

    async def end(*arguments: Any) -> Any:
        nonlocal left
        if not left:
            raise Killed
        left -= 1
        return await whole(*arguments)

    broken.setattr(target, place, end)


async def test_a_run_that_waits_in_vain_for_a_transaction_is_taken_up(
    old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "LOCK_TIMEOUT", "300ms")
    rows = await old.rows()
    async with old.connection.transaction():
        await old.rows()
        with pytest.raises(asyncpg.LockNotAvailableError):
            await old.archive_all()
    found, _ = await old.archivist.look(["delivery"])
    assert next(each for each in found if each.name == old.name).pending
    assert len(await old.rows()) == 1
    assert len(await old.archive_all()) == 1
    await old.archivist.restore(old.name)
    assert await old.rows() == rows


async def test_a_restore_that_is_broken_off_leaves_nothing(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = await old.rows()
    await old.archive_all()
    with monkeypatch.context() as broken:
        _break(broken, old, "_attach", 0)
        with pytest.raises(Killed):
            await old.archivist.restore(old.name)
    assert await old.archive_all() == []
    await old.archivist.restore(old.name)
    assert await old.rows() == rows
    with pytest.raises(NoSuchPartition, match="in the database already"):
        await old.archivist.restore(old.name)


@pytest.mark.parametrize("damage", ["a flipped bit", "a lost end", "a lost file"])
async def test_a_damaged_file_is_not_read_back(old: Old, tmp_path: Path, damage: str) -> None:
    (archive,) = await old.archive_all()
    path = tmp_path / "files" / archive.file
    whole = path.read_bytes()
    if damage == "a lost file":
        path.unlink()
    else:
        path.write_bytes(whole[:-9] if damage == "a lost end" else whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    with pytest.raises(FilesUnavailable if damage == "a lost file" else ArchiveDamaged):
        await old.archivist.restore(old.name)
    assert len(await old.rows()) == 1


async def test_a_file_that_was_not_stored_as_it_was_written_drops_nothing(
    old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = old.files.put

    async def put_half(name: str, source: Path) -> None:
        if name.endswith(".gz"):
            source.write_bytes(source.read_bytes()[:-20])
        await put(name, source)

    rows = await old.rows()
    with monkeypatch.context() as broken:
        broken.setattr(old.files, "put", put_half)
        with pytest.raises(ArchiveDamaged):
            await old.archive_all()
    await old.archive_all()
    await old.archivist.restore(old.name)
    assert await old.rows() == rows


async def test_only_months_that_are_old_enough_go_and_one_read_back_is_left_alone(old: Old) -> None:
    ends = datetime(clock.now().year, clock.now().month, 1, tzinfo=UTC)
    assert await old.archivist.archive_due(["delivery"], ends - timedelta(seconds=1)) == []
    assert len(old.of_recipients(await old.archivist.archive_due(["delivery"], ends))) == 1
    await old.archivist.restore(old.name)
    assert await old.archive_all() == []
    with clock.frozen(clock.now() + timedelta(days=31)):
        names = [each.name for each in await old.archivist.archive_due(["delivery"], ends)]
    assert names == [old.name, old.trail]
    await old.archivist.restore(old.name)
    assert (await old.archivist.archive(old.name)).rows == 4


async def test_archives_older_than_the_longest_retention_go(old: Old) -> None:
    await old.archive_all()
    assert await old.archivist.drop_due(["delivery"], old.month) == []
    dropped = await old.archivist.drop_due(["delivery"], clock.now())
    assert [each.name for each in dropped] == [old.name, old.trail]
    assert await old.files.names("") == []
    with pytest.raises(NoSuchPartition):
        await old.archivist.drop(old.name)


async def test_a_column_that_came_later_has_its_default_and_one_that_went_is_left_out(old: Old) -> None:
    await old.archive_all()
    await old.connection.execute(
        "ALTER TABLE delivery.recipients ADD COLUMN added integer NOT NULL DEFAULT 7, DROP COLUMN media_urls"
    )
    await old.archivist.restore(old.name)
    query = "SELECT added FROM delivery.recipients WHERE id < $1"
    added = await old.connection.fetch(query, derived_id(old.month + timedelta(days=1), b""))
    assert [row["added"] for row in added] == [7, 7, 7, 7]


async def test_every_table_that_is_partitioned_can_be_archived(old: Old) -> None:
    found, _ = await old.archivist.look(SERVICES)
    assert {f"{each.service}.{each.table}" for each in found} == {
        "billing.usage_ledger",
        "compliance.audit_log",
        "conversation.conversation_messages",
        "delivery.recipients",
        "delivery.trail",
    }
    made = await old.archivist.archive_due(SERVICES, clock.now())
    assert len(made) == 5
    for archive in made:
        if archive.table != "trail":  # it comes back with its recipients
            await old.archivist.restore(archive.name)
    assert await faults(old) == []


async def test_rows_are_changed_in_a_file_at_one_go(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    (before,) = await old.archive_all()

    def leave_out_failed(row: dict[str, Any]) -> dict[str, Any] | None:
        return None if row["status"] == "failed" else row

    with monkeypatch.context() as broken:
        _break(broken, old, "put", 1)
        with pytest.raises(Killed):
            await old.archives.rewrite("delivery.recipients", leave_out_failed)
    assert old.of_recipients(await old.archives.list("delivery")) == [before]
    assert await old.archives.rewrite("delivery.recipients", leave_out_failed) == 1
    assert await old.archives.rewrite("delivery.recipients", leave_out_failed) == 0
    assert await old.archives.rewrite("delivery.others", leave_out_failed) == 0
    (after,) = old.of_recipients(await old.archives.list("delivery"))
    assert (after.rows, after.name) == (3, before.name)
    names = [each for each in await old.files.names("archives/") if "/recipients_" in each]
    assert names == sorted([after.file, after.manifest])
    await old.archivist.restore(old.name)
    assert len(await old.rows()) == 4


async def test_two_that_rewrite_at_once_take_turns(old: Old) -> None:
    await old.archive_all()

    def note(name: str) -> Any:
        return lambda row: row if name in row["text"] else {**row, "text": row["text"] + name}

    names = ["first", "second", "third"]
    await asyncio.gather(*(old.archives.rewrite("delivery.recipients", note(name)) for name in names))
    await old.archivist.restore(old.name)
    texts = [msgspec.json.decode(row)["text"] for row in await old.rows()]
    assert sum(all(name in text for name in names) for text in texts) == 4


async def test_a_rotation_of_keys_reaches_archives(old: Old) -> None:
    await old.archive_all()
    found = Found()
    await keys._rotate_archives(old.archives, BOTH, found)
    assert found.changed["archives of delivery.recipients"] == 4
    assert not any(found.remaining.values())
    (archive,) = old.of_recipients(await old.archives.list("delivery"))
    assert archive.key_ids == ["new"]
    await old.archivist.restore(old.name)
    sealed = await old.connection.fetchval("SELECT phone_ciphertext FROM delivery.recipients ORDER BY id LIMIT 1")
    assert NEW.decrypt(sealed, old.church_id, "phone") == PHONE


async def test_an_archives_key_that_is_not_listed_any_more_is_told(old: Old) -> None:
    await old.archive_all()
    found = Found()
    await keys._rotate_archives(old.archives, NEW, found)
    assert found.remaining[f"the archive {old.name}"] == {"old": 1}


async def test_ciphertexts_of_a_detached_month_are_seen(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        _break(broken, old, "put", 0)
        with pytest.raises(Killed):
            await old.archive_all()
    tables = await ciphertexts.list_tables(old.connection, ["delivery"])
    assert old.name in {str(each) for each in tables}


def test_a_bucket_is_named_whole_and_reached_by_tls_in_production(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="go together"):
        open_files(FileSettings(s3_bucket="b"), tmp_path)
    with pytest.raises(SettingsError, match="TLS"):
        open_files(FileSettings(s3_url="http://s3.test", s3_bucket="bucket"), tmp_path, encrypted=True)


async def test_a_bucket_that_is_away_is_one_line(bucket: FileSettings, tmp_path: Path) -> None:
    files = open_files(bucket, tmp_path)
    with pytest.raises(FilesUnavailable, match="koinonia") as told:
        await files.get("archives/none", tmp_path / "target")
    assert "\n" not in str(told.value)
    assert "secret" not in str(told.value)
