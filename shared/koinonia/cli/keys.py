"""``koinonia keys``: what is stored is made anew under the newest encryption key, and old keys are found free to go."""

import asyncio
import base64
import binascii
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import click
import msgspec

from koinonia.bus import dead_letters
from koinonia.bus.declare import DELAY_SECONDS, delay_exchange
from koinonia.bus.link import Link, close_channel, existing_queue
from koinonia.bus.topology import QUEUES
from koinonia.cli import control, development_keys, environment
from koinonia.cli.broker_users import vhost_of
from koinonia.cli.main import CommandFailed
from koinonia.cli.options import state_directory
from koinonia.cli.partitions import make_archives
from koinonia.cli.places import Places, find_places
from koinonia.cli.prepare import database_errors
from koinonia.cli.queue_counts import LAG_SECONDS, QueueCounts
from koinonia.cli.state import StateDirectory
from koinonia.db import ciphertexts
from koinonia.db.archives import ArchiveDamaged, Archives
from koinonia.db.ciphertexts import Table, TableHidden
from koinonia.db.roles import SERVICES
from koinonia.files import FilesUnavailable
from koinonia.security.encryption import Cipher, CiphertextInvalid, key_id_of
from koinonia.security.keyring import Keyring

SETTING = "KOINONIA_ENCRYPTION_KEYS"
_POLL_SECONDS = 0.2  # well below the shortest delay, so that no event is held back unseen
_SEALED = tuple(
    queue for queue, types in QUEUES.items() if any("Ciphertext" in str(msgspec.json.schema(each)) for each in types)
)
"""The queues of events that can carry a ciphertext. The others need no key; a busy platform never leaves them empty."""
_BASE64 = re.compile(rb'"([A-Za-z0-9+/]{40,}={0,2})"')


@click.group("keys")
def command() -> None:
    """Re-encrypt what is stored under the newest key, or make new keys for containers."""


@command.command("new")
@state_directory
def new_command(state: Path) -> None:
    """Print new keys and passwords for docker-compose.yml, as lines of an .env file.

    Keys of a `koinonia up` in the state directory go on: it reads the same file.
    """
    kept = development_keys.read(StateDirectory(state).keys)
    click.echo("\n".join(f"{name}={value}" for name, value in development_keys.for_containers(kept).items()))


@command.command("rotate")
@click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help=f"Seconds, at most, for events under an older key to be through; below {LAG_SECONDS:g} is taken as that.",
)
@state_directory
def rotate_command(wait_seconds: float, state: Path) -> None:
    """Re-encrypt every stored phone and address under the newest key, while the platform runs.

    Put the new key last in KOINONIA_ENCRYPTION_KEYS and reload, then first and reload, and then call this. It can be
    broken off and called again.

    It says which older keys nothing needs any more: take those out, and reload. Exit 1 while one may still be needed:
    it says where, and how many ciphertexts. What consumers have in hand it learns from RabbitMQ's management API.
    """
    keyring, cipher = _keys(state)
    places = find_places(state)
    asyncio.run(_check_running(StateDirectory(state).control, keyring.newest.id))
    with database_errors():
        try:
            found = asyncio.run(_rotate(places, cipher, wait_seconds))
            asyncio.run(_rotate_archives(make_archives(places.database(), state), cipher, found))
        except (TableHidden, ArchiveDamaged, FilesUnavailable) as error:
            raise CommandFailed(str(error)) from None
    if not _tell(found, keyring):
        raise click.exceptions.Exit(1)


@dataclass
class Found:
    """What a rotation did, and where older keys are still needed."""

    changed: Counter[str] = field(default_factory=Counter)  # rows, by table
    unreadable: dict[str, int] = field(default_factory=dict)  # rows, by table
    remaining: dict[str, Counter[str]] = field(default_factory=dict)  # by place: ciphertexts by the id of their key
    waiting: dict[str, int] = field(default_factory=dict)  # events that nobody can look at, by queue
    through: bool = False  # a round that began when each queue had been empty found nothing to do


def _keys(state: Path) -> tuple[Keyring, Cipher]:
    """The encryption keys: of the settings, else those made for development."""
    path = StateDirectory(state).keys
    text = environment.read().encryption_keys or development_keys.read(path).get(SETTING)
    if text is None:
        raise CommandFailed(f"{SETTING} is not set, and {path} does not exist")
    keyring = Keyring.parse(text, SETTING)
    return keyring, Cipher(keyring)


async def _check_running(path: Path, newest: str) -> None:
    """Refuse a key under which a running platform does not encrypt yet: it may not even be able to read it."""
    with suppress(control.NobodyAnswers):
        async for used in control.ask(path, control.NEWEST_KEY):
            if used != newest:
                raise CommandFailed(f"the running platform encrypts under {used}, not under {newest}: reload it first")


async def _rotate(places: Places, cipher: Cipher, wait_seconds: float) -> Found:
    """Go over the tables until a round that began after all older events were through finds nothing to do."""
    found = Found()
    amqp_url, management_url = places.amqp(), places.management_url or ""
    connection = await asyncpg.connect(places.database(), timeout=10, server_settings={"lock_timeout": "5000"})
    try:
        tables = await ciphertexts.list_tables(connection, SERVICES)
        await _round(connection, tables, cipher, found)
        deadline = time.monotonic() + wait_seconds
        while True:  # once at least: only queues that were looked at are known to be through
            found.waiting = await _until_through(amqp_url, management_url, deadline)
            changed = await _round(connection, tables, cipher, found)
            found.through = not found.waiting and not changed
            if found.through or time.monotonic() > deadline:
                break
        await _look_for_older(connection, tables, amqp_url, cipher, found)
    finally:
        await connection.close()
    return found


async def _rotate_archives(archives: Archives, cipher: Cipher, found: Found) -> None:
    """Make anew what archives hold under older keys, and count the archives that still do."""
    for service in SERVICES:
        stale = [each for each in await archives.list(service) if set(each.key_ids) - {cipher.newest_key_id}]
        for table in sorted({f"{service}.{each.table}" for each in stale}):
            found.changed[f"archives of {table}"] += await archives.rewrite(table, ciphertexts.renewing(cipher))
            found.unreadable[f"archives of {table}"] = 0
        for archive in await archives.list(service):
            older = Counter(key_id for key_id in archive.key_ids if key_id != cipher.newest_key_id)
            found.remaining[f"the archive {archive.name}"] = older


async def _round(
    connection: "asyncpg.Connection[asyncpg.Record]", tables: Sequence[Table], cipher: Cipher, found: Found
) -> int:
    total = 0
    for table in tables:
        outcome = await ciphertexts.reencrypt(connection, table, cipher)
        found.changed[str(table)] += outcome.changed
        found.unreadable[str(table)] = len(outcome.unreadable)
        total += outcome.changed
    return total


async def _until_through(amqp_url: str, management_url: str, deadline: float) -> dict[str, int]:
    """Wait until what was in ``_SEALED`` when this was called has been dealt with; answers what may not have been.

    A count is as old as ``LAG_SECONDS``, and a failed event goes from its queue to a delay and back. So a queue is
    through when it counts as empty and no event has been held back for so long, which is seen once at least.
    """
    waiting, held_back = dict.fromkeys(_SEALED, 0), dict[str, int]()
    quiet_since = time.monotonic()
    deadline = max(deadline, quiet_since + LAG_SECONDS)
    async with _link(amqp_url) as link, QueueCounts(management_url) as broker:
        while True:
            counts = await broker.count(vhost_of(amqp_url))
            held_back_now = await _held_back(link)
            now = time.monotonic()
            if held_back_now:
                held_back, quiet_since = held_back_now, now
            elif now - quiet_since >= LAG_SECONDS:
                held_back = {}
                waiting = {name: counts[name] for name in waiting if counts[name]}
            if not waiting:
                return {}
            if now >= deadline:
                return {name: counts[name] for name in waiting if counts[name]} or held_back
            await asyncio.sleep(_POLL_SECONDS)


async def _held_back(link: Link) -> dict[str, int]:
    """The events in each delay that has some, as they are now: nobody takes from there."""
    channel = await link.channel()
    try:
        names = [delay_exchange(seconds) for seconds in DELAY_SECONDS]
        queues = [await existing_queue(channel, name) for name in names]
    finally:
        await close_channel(channel)
    return {queue.name: count for queue in queues if (count := queue.declaration_result.message_count)}


async def _look_for_older(
    connection: "asyncpg.Connection[asyncpg.Record]",
    tables: Sequence[Table],
    amqp_url: str,
    cipher: Cipher,
    found: Found,
) -> None:
    """Count what is under an older key, in tables, in events that wait there, and in dead letters."""
    for table in tables:
        found.remaining[str(table)] = await ciphertexts.count_by_older_key(connection, table, cipher.newest_header)
    for service in SERVICES:
        for name in ("outbox", "parked"):
            found.remaining[f"{service}.{name}"] = await _count_in_events(connection, service, name, cipher)
    async with _link(amqp_url) as link:
        for queue, count in (await dead_letters.count(link)).items():
            if count:
                bodies = [letter.body for letter in await dead_letters.show(link, queue)]
                counts = sum((older_keys_in(body, cipher) for body in bodies), Counter[str]())
                found.remaining[f"dead letters of {queue}"] = counts


async def _count_in_events(
    connection: "asyncpg.Connection[asyncpg.Record]", service: str, table: str, cipher: Cipher
) -> Counter[str]:
    counts: Counter[str] = Counter()
    async with connection.transaction():
        await connection.execute(f"SET LOCAL ROLE koinonia_{service}_owner")
        async for row in connection.cursor(f"SELECT body FROM {service}.{table}"):  # noqa: S608 - names of ours
            counts += older_keys_in(row["body"], cipher)
    return counts


def older_keys_in(body: bytes, cipher: Cipher) -> Counter[str]:
    """The ciphertexts in an event that are not under the newest key, by the id of theirs."""
    counts: Counter[str] = Counter()
    for text in _BASE64.findall(body):
        try:
            value = base64.b64decode(text, validate=True)
            key_id = key_id_of(value)
        except (binascii.Error, CiphertextInvalid):
            continue
        if not cipher.is_current(value):
            counts[key_id] += 1
    return counts


def _tell_why_not_through(found: Found) -> None:
    for queue, count in found.waiting.items():
        click.echo(f"{queue}: {count} waiting or being handled")
    if found.waiting:
        click.echo("the keys of events on their way cannot be seen; call this again when they are through")
    elif not found.through:
        click.echo("rows under an older key were still being found; call this again")


def _tell(found: Found, keyring: Keyring) -> bool:
    """Print it; whether no older key is needed any more."""
    for table, count in found.changed.items():
        unreadable = found.unreadable[table]
        click.echo(f"{table}: {count} re-encrypted" + (f", {unreadable} cannot be read" if unreadable else ""))
    _tell_why_not_through(found)
    needed: Counter[str] = Counter()
    for place, counts in found.remaining.items():
        for key_id, count in counts.items():
            click.echo(f"{place}: {count} under {key_id}")
        needed += counts
    for key in list(keyring)[1:]:
        if not needed[key.id] and found.through:
            click.echo(f"nothing is under {key.id} any more: take it out of {SETTING} and reload")
    for key_id in needed:
        if keyring.find(key_id) is None:
            click.echo(f"the key {key_id or 'of damaged ciphertexts'} is not listed, and needed")
    return not needed and found.through


@asynccontextmanager
async def _link(amqp_url: str) -> AsyncIterator[Link]:
    link = Link(amqp_url, "koinonia keys")
    try:
        yield link
    finally:
        await link.close()
