"""``python -m bench.buffers``: how many pages claim, settle and receipts touch per recipient, in small and big tables.

Each size has a database of its own in one private PostgreSQL. Sizes differ in the rows of the live month and in the
number of churches, and in nothing else: the same number of copies waits, of as many churches. Counted is what
pg_stat_statements says of each statement, every touch of a page of a table or an index.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
from services.delivery.tests.integration.conftest import World, accepted, receipt
from services.delivery.tests.integration.plenty import fill
from yarl import URL

from koinonia.cli.environment import inherited
from koinonia.db import Database
from koinonia.db.migrate import migrate
from koinonia.security.keys import Keys
from koinonia.servers import Wanted, find
from koinonia.testing.services import KEY_SETTINGS
from koinonia_delivery.claims import Call

BATCH = 500
ROUNDS = 6
CHURCH_ROWS = 1000
ALLOWED = 1.2
"""How many times the pages of the smallest size the biggest may touch."""

_COUNT = """
SELECT
    coalesce(sum(shared_blks_hit + shared_blks_read), 0)::float8 AS pages,
    coalesce(sum(wal_bytes), 0)::float8 AS wal_bytes,
    coalesce(sum(total_exec_time), 0)::float8 * 1000 AS microseconds
FROM public.pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND userid = 'koinonia_delivery_across'::regrole AND query LIKE '/*%'
"""
_UPDATED = """
SELECT n_tup_upd AS updated, n_tup_hot_upd AS hot
FROM pg_stat_user_tables WHERE relname = 'recipients_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')
"""


@dataclass
class Figures:
    """What one size came to, per recipient, by what was done."""

    rows: int
    churches: int
    pages: dict[str, float] = field(default_factory=dict)
    wal_bytes: dict[str, float] = field(default_factory=dict)
    microseconds: dict[str, float] = field(default_factory=dict)
    hot: float = 0.0  # share of updates of recipients that touched no index


async def measure(admin_url: str, rows: int, churches: int, fill_factor: int | None = None) -> Figures:
    """Fill a database of its own, drop it again, and tell what was touched in it."""
    name = f"rows_{rows}"
    server = await asyncpg.connect(admin_url)
    try:
        await server.execute(f"CREATE DATABASE {name}")
        return await _measure(str(URL(admin_url).with_path(f"/{name}")), Figures(rows, churches), fill_factor)
    finally:
        await server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await server.close()


async def _measure(url: str, figures: Figures, fill_factor: int | None) -> Figures:
    await migrate(url, ["delivery"])
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE EXTENSION pg_stat_statements")
        if fill_factor is not None:
            query = "SELECT child.relname FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid "
            query += "WHERE inhparent = 'delivery.recipients'::regclass"
            for row in await connection.fetch(query):
                await connection.execute(f"ALTER TABLE delivery.{row[0]} SET (fillfactor = {fill_factor})")
        started = time.monotonic()
        plenty = await fill(connection, figures.rows, figures.churches)
        await connection.execute("VACUUM ANALYZE", timeout=3600)
        _say(f"{figures.rows:,} rows and {figures.churches:,} churches in {time.monotonic() - started:.0f} s")
        async with _opened(url) as database:
            world = World(database, Keys.parse(**KEY_SETTINGS), plenty.church_id)
            await _work(world, connection, figures)
        updated = await connection.fetchrow(_UPDATED)
        figures.hot = updated["hot"] / max(updated["updated"], 1) if updated else 0.0
    finally:
        await connection.close()
    return figures


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Database]:
    database = await Database.open(
        str(URL(url).with_user("koinonia_delivery")), "delivery", statement_timeout_seconds=120.0
    )
    yield database
    await database.close()


async def _work(world: World, connection: "asyncpg.Connection[asyncpg.Record]", figures: Figures) -> None:
    """Claim, settle and receive in turn; the first round warms up."""
    calls: list[Call] = []

    async def claim() -> None:
        calls[:] = (await world.claim(BATCH)).calls

    async def settle() -> None:
        await world.settle(*(accepted(call.claimed) for call in calls))

    async def receive(status: str) -> None:
        await world.receive(*(receipt(call.claimed.recipient_id, status) for call in calls))

    steps: dict[str, Callable[[], Awaitable[None]]] = {
        "claim": claim,
        "settle": settle,
        "receipts: sent": lambda: receive("sent"),
        "receipts: delivered": lambda: receive("delivered"),
    }
    for turn in range(ROUNDS + 1):
        await world.be_fresh()
        for name, step in steps.items():
            await connection.execute("SELECT public.pg_stat_statements_reset()")
            await step()
            if not calls:
                raise RuntimeError("nothing was claimed")
            counted = await connection.fetchrow(_COUNT)
            if turn and counted is not None:
                for values, column in (
                    (figures.pages, "pages"),
                    (figures.wal_bytes, "wal_bytes"),
                    (figures.microseconds, "microseconds"),
                ):
                    values[name] = values.get(name, 0.0) + counted[column] / len(calls) / ROUNDS


def show(found: Sequence[Figures]) -> bool:
    """Print the table; whether the biggest touches no more than it may."""
    smallest, biggest = found[0], found[-1]
    _say(f"\n{'per recipient':20}" + "".join(f"{f'{each.rows:,} rows':>26}" for each in found) + f"{'ratio':>8}")
    _say(" " * 20 + f"{'pages   WAL bytes     us':>26}" * len(found))
    good = True
    for name in smallest.pages:
        ratio = biggest.pages[name] / smallest.pages[name]
        cells = (
            f"{each.pages[name]:8.1f}{each.wal_bytes[name]:12,.0f}{each.microseconds[name]:6.0f}" for each in found
        )
        _say(f"{name:20}" + "".join(cells) + f"{ratio:8.2f}")
        good = good and ratio <= ALLOWED
    _say(f"{'HOT updates':20}" + "".join(f"{each.hot:26.0%}" for each in found))
    return good


async def run(sizes: Sequence[tuple[int, int]], fill_factor: int | None) -> list[Figures]:
    """Measure every size in a private PostgreSQL, durable as it would be elsewhere."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        environ = {key: value for key, value in inherited().items() if not key.startswith("KOINONIA_")}
        postgres = find(environ, Wanted(directory, directory, durable=True)).postgres
        await postgres.start()
        try:
            return [await measure(postgres.url, rows, churches, fill_factor) for rows, churches in sizes]
        finally:
            await postgres.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; exit 1 when the biggest size touches more than a fifth above the smallest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 10_000_000], help="of the live month")
    parser.add_argument("--churches", type=int, help="in each size; otherwise one for a thousand rows")
    parser.add_argument("--fill-factor", type=int, help="of recipients, in place of its own")
    told = parser.parse_args(arguments)
    sizes = [(rows, told.churches or max(rows // CHURCH_ROWS, 20)) for rows in told.rows]
    return 0 if show(asyncio.run(run(sizes, told.fill_factor))) else 1


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
