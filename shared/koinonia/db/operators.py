"""A service's tables as an operator's command reads and changes them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg

from koinonia.db.roles import SERVICES
from koinonia.db.transaction import Transaction

STATEMENT_SECONDS = 30


@asynccontextmanager
async def reading(
    connection: "asyncpg.Connection[asyncpg.Record]", service: str, church_id: UUID | None = None
) -> AsyncIterator[Transaction]:
    """A snapshot that sees every church's rows, also where it names one: its statements say which they want.

    ``connection`` is an administrator's, outside a transaction.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        yield await _become(connection, service, "owner", church_id)


@asynccontextmanager
async def writing(
    connection: "asyncpg.Connection[asyncpg.Record]", service: str, church_id: UUID
) -> AsyncIterator[Transaction]:
    """A transaction for one church; it sees every church's rows all the same. What it adds to the outbox goes out."""
    async with connection.transaction():
        yield await _become(connection, service, "owner", church_id)


@asynccontextmanager
async def changing(connection: "asyncpg.Connection[asyncpg.Record]", service: str) -> AsyncIterator[Transaction]:
    """A transaction that may do what the service's own work across churches may."""
    async with connection.transaction():
        yield await _become(connection, service, "across", None)


async def _become(
    connection: "asyncpg.Connection[asyncpg.Record]", service: str, role: str, church_id: UUID | None
) -> Transaction:
    if service not in SERVICES:
        raise ValueError(f"no service is called {service!r}")
    await connection.execute(
        f"SET LOCAL ROLE koinonia_{service}_{role}; SET LOCAL search_path = {service};"
        f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'"
    )
    return Transaction(connection, church_id, service)
