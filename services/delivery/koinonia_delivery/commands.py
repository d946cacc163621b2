"""``koinonia delivery status`` and ``emails``: how sending stands, and which e-mails wait or have failed."""

import asyncio
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

import aiohttp
import asyncpg
import click
import msgspec
from rich.console import Console, Group
from rich.table import Table

from koinonia import clock
from koinonia.cli.main import CommandFailed
from koinonia.cli.options import state_directory
from koinonia.cli.places import find_places
from koinonia.cli.prepare import database_errors, schema_errors
from koinonia.cli.state import StateDirectory
from koinonia.db.operators import changing, reading
from koinonia.db.partitions import end_of
from koinonia.metrics import STATES
from koinonia_delivery.figures import Queue, RateUse, measure
from koinonia_delivery.store import emails as email_store
from koinonia_delivery.store import figures as store
from koinonia_delivery.store.emails import Listed

SAMPLE_SECONDS = 1.0
"""Between two readings of the numbers' counters: what they use of their rates is the difference."""
WATCH_SECONDS = 2.0
PAPER_COLUMNS = 200  # where nobody's terminal says how wide it is
MOST_ROWS = 10_000_000
MOST_NUMBERS = 50
MOST_EMAILS = 200
_BREAKERS = {value: name.replace("_", " ") for name, value in STATES.items()}


class Number(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A church's number that sends, or cannot. ``rate_use``: the share of its segments per second used just now."""

    id: UUID
    church_id: UUID
    phone: str
    kind: str
    state: str  # busy, resting, held, pending
    segments_per_second: float
    rate_use: float
    calls: int
    rests_seconds: float
    code: str | None
    reason: str | None


class Worker(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A delivery worker that is connected. Its breaker and pause are known where it runs on this machine."""

    name: str
    address: str
    connections: int
    breaker: str | None = None
    account_paused_seconds: float | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How sending stands."""

    at: datetime
    queues: list[Queue]
    numbers: list[Number]
    workers: list[Worker]
    leases: int
    ended_leases: int  # whose worker is gone: they become unknown within seconds
    longest_call_seconds: float | None
    is_fresh: bool  # no opt-out can be unknown for longer than 15 s: else nothing is claimed
    marker_seconds: float | None
    backlog_seconds: float | None
    partitions_end: datetime | None


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
@click.option("--watch", is_flag=True, help="Again every two seconds, until Ctrl-C.")
@state_directory
def status_command(state: Path, as_json: bool, watch: bool) -> None:
    """Show what waits, numbers at work or at rest, workers, and whether opt-outs are known in time."""
    places = find_places(state)
    console = Console(width=None if sys.stdout.isatty() else PAPER_COLUMNS)
    while True:
        with database_errors(), schema_errors():
            status = asyncio.run(read(places.database(), state))
        if watch and not as_json:
            console.clear()
        if as_json:
            click.echo(msgspec.json.encode(status))
        else:
            console.print(render(status))
        if not watch:
            return
        time.sleep(WATCH_SECONDS)


def _email_id(given: str) -> UUID | Literal["all"]:
    return "all" if given == "all" else UUID(given)


@click.command("emails")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
@click.option("--retry", type=_email_id, metavar="ID|all", help="Let one that has failed, or all, be tried again.")
@state_directory
def emails_command(state: Path, as_json: bool, retry: UUID | Literal["all"] | None) -> None:
    """Show the e-mails that wait or have failed; what they say and to whom, nobody sees."""
    places = find_places(state)
    with database_errors(), schema_errors():
        found = asyncio.run(read_emails(places.database(), retry))
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    table = Table("id", "church", "template", "status", "attempts", "unknown", "code", "asked for", "expires", box=None)
    for each in found:
        times = (f"{at:%Y-%m-%d %H:%M:%S}" for at in (each.created_at, each.expires_at))
        counts = (str(each.attempt), str(each.unknowns))
        code = each.error_code or "-"
        table.add_row(str(each.id), str(each.church_id), each.template, each.status, *counts, code, *times)
    Console(width=None if sys.stdout.isatty() else PAPER_COLUMNS).print(table)


async def read_emails(admin_url: str, retry: UUID | Literal["all"] | None = None) -> list[Listed]:
    """The e-mails that wait or have failed, the newest first; ``retry``: after one or all of them were queued again.

    Raises:
        CommandFailed: the one has not failed, or it has expired.
    """
    connection = await asyncpg.connect(admin_url, timeout=5)
    try:
        if retry is not None:
            async with changing(connection, "delivery") as tx:
                if not await email_store.retry(tx, None if retry == "all" else retry) and retry != "all":
                    raise CommandFailed(f"no e-mail {retry} has failed and may still be sent")
        async with reading(connection, "delivery") as tx:
            return await email_store.list_open(tx, MOST_EMAILS)
    finally:
        await connection.close()


async def read(admin_url: str, state: Path) -> Status:
    """Read everything, which takes ``SAMPLE_SECONDS`` and a little."""
    connection = await asyncpg.connect(admin_url, timeout=5)
    try:
        rates = RateUse()
        async with reading(connection, "delivery") as tx:
            await rates.read(tx)
        await asyncio.sleep(SAMPLE_SECONDS)
        async with reading(connection, "delivery") as tx:
            shares = await rates.read(tx)
            queues = await measure(tx, MOST_ROWS)
            busiest = sorted(shares, key=lambda number_id: shares[number_id], reverse=True)[:MOST_NUMBERS]
            numbers = await store.list_numbers(tx, busiest, MOST_NUMBERS)
            found = await store.fetch_state(tx)
        workers = await connection.fetch(store.LIST_WORKERS.text)
    finally:
        await connection.close()
    ends = await end_of(admin_url, ("delivery",))
    return Status(
        at=clock.now(),
        queues=queues,
        numbers=[_number(row, shares.get(row["id"], 0.0)) for row in numbers],
        workers=await _workers(workers, state),
        leases=found["leases"],
        ended_leases=found["ended_leases"],
        longest_call_seconds=found["longest_seconds"],
        is_fresh=found["is_fresh"],
        marker_seconds=found["marker_seconds"],
        backlog_seconds=found["backlog_seconds"],
        partitions_end=min(ends.values(), default=None),
    )


def _number(row: asyncpg.Record, share: float) -> Number:
    rests = row["rests_seconds"] > 1.0
    state = row["status"] if row["status"] != "active" else "resting" if rests else "busy"
    is_told = state != "busy"
    return Number(
        id=row["id"],
        church_id=row["church_id"],
        phone=row["phone"],
        kind=row["kind"],
        state=state,
        segments_per_second=row["segments_per_second"],
        rate_use=share,
        calls=row["leases"],
        rests_seconds=row["rests_seconds"],
        code=row["error_code"] if is_told else None,
        reason=row["error_message"] if is_told else None,
    )


async def _workers(rows: Sequence[asyncpg.Record], state: Path) -> list[Worker]:
    """The workers; of those that run on this machine, their breaker and pause as their metrics have them."""
    urls = {process.pid: process.url for process in StateDirectory(state).read_processes().values()}
    workers = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session:
        for row in rows:
            url = urls.get(int(row["name"].rpartition("-")[2]))
            figures = await _metrics(session, url) if url else {}
            breaker = figures.get('koinonia_breaker_state{breaker="carrier"')
            paused_until = figures.get("koinonia_account_paused_until_seconds")
            workers.append(
                Worker(
                    name=row["name"].removeprefix("koinonia-"),
                    address=row["address"],
                    connections=row["connections"],
                    breaker=None if breaker is None else _BREAKERS.get(int(breaker), str(breaker)),
                    account_paused_seconds=None if paused_until is None else max(0.0, paused_until - time.time()),
                )
            )
    return workers


async def _metrics(session: aiohttp.ClientSession, url: str) -> dict[str, float]:
    """The figures of a process by their name, and by the first label where there is one."""
    try:
        async with session.get(f"{url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
    except (aiohttp.ClientError, OSError, TimeoutError):
        return {}
    found = {}
    for line in lines:
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name.partition(",")[0].partition("}")[0]] = float(value)
            found.setdefault(name.partition("{")[0], float(value))
    return found


def render(status: Status) -> Group:
    """The tables of a terminal."""
    return Group(_queues(status), "", _numbers(status), "", _workers_table(status), "", *_lines(status))


def _queues(status: Status) -> Table:
    table = Table("waiting", "rows", "due now", "oldest", box=None, pad_edge=False)
    for queue in status.queues:
        table.add_row(queue.name, f"{queue.depth:,}", f"{queue.due:,}", _age(queue.oldest_seconds))
    return table


def _numbers(status: Status) -> Table:
    table = Table("number", "church", "state", "rate used", "of", "calls", "rests", "why", box=None, pad_edge=False)
    for each in status.numbers:
        table.add_row(
            each.phone,
            str(each.church_id),
            each.state,
            f"{each.rate_use:.0%}",
            f"{each.segments_per_second:g}/s",
            str(each.calls),
            _age(each.rests_seconds) if each.state == "resting" else "-",
            " ".join(word for word in (each.code, each.reason) if word) or "-",
        )
    if not status.numbers:
        table.add_row("none at work", *["-"] * 7)
    return table


def _workers_table(status: Status) -> Table:
    table = Table("worker", "from", "connections", "carrier's breaker", "access", box=None, pad_edge=False)
    for each in status.workers:
        paused = each.account_paused_seconds
        access = "-" if paused is None else f"rests {_age(paused)}" if paused else "open"
        table.add_row(each.name, each.address, str(each.connections), each.breaker or "-", access)
    if not status.workers:
        table.add_row("none is connected", *["-"] * 4)
    return table


def _lines(status: Status) -> list[str]:
    ended = f", {status.ended_leases} of them ended" if status.ended_leases else ""
    opt_outs = "known in time" if status.is_fresh else "NOT known in time: nothing is claimed"
    backlog = f", a gateway holds texts for {_age(status.backlog_seconds)}" if status.backlog_seconds else ""
    end = "none" if status.partitions_end is None else f"{status.partitions_end:%Y-%m-%d}"
    return [
        f"leases      {status.leases}{ended}; the longest call so far {_age(status.longest_call_seconds)}",
        f"opt-outs    {opt_outs} (marker {_age(status.marker_seconds)} old{backlog})",
        f"partitions  until {end}",
    ]


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
