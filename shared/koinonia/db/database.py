"""One pool per process, and transactions that name their tenant first.

Beginning, role, tenant and limits travel in one round trip. A transaction ends within its time limit or is rolled
back; waiting for a connection has a limit of its own and ends in ``DependencyUnavailable``.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Literal, Self
from uuid import UUID

import asyncpg

from koinonia import metrics
from koinonia.db.transaction import Transaction
from koinonia.errors import DependencyUnavailable

Isolation = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]

if TYPE_CHECKING:
    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Connection = asyncpg.pool.PoolConnectionProxy

TRANSACTION_SECONDS = 10.0
"""The time limit of a transaction, unless its statements alone may take longer."""
IDLE_SECONDS = 30.0


class Database:
    """A service's way to its own schema.

    Raises:
        DependencyUnavailable: no connection became free in time, or none can be made.
    """

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        service: str,
        url: str,
        direct_url: str,
        *,
        acquire_timeout_seconds: float,
        statement_timeout_seconds: float,
    ) -> None:
        self._pool = pool
        self._acquire_timeout_seconds = acquire_timeout_seconds
        self._transaction_seconds = max(TRANSACTION_SECONDS, statement_timeout_seconds)
        # With SET LOCAL, in the trip that begins: a pooler in between carries no settings of a session.
        self._limits = (
            f"SET LOCAL statement_timeout = {round(statement_timeout_seconds * 1000)}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {round(IDLE_SECONDS * 1000)}"
        )
        self.service = service
        self.url = url
        self.direct_url = direct_url  # for LISTEN, which a pooler cannot carry
        metrics.pools.add(self)

    @classmethod
    async def open(
        cls,
        url: str,
        service: str,
        *,
        direct_url: str | None = None,
        pool_size: int = 10,
        acquire_timeout_seconds: float = 2.0,
        statement_timeout_seconds: float = 10.0,
        application: str | None = None,
    ) -> Self:
        """Open the pool. Connections are made when they are needed: the server may be away.

        ``application``: how the server's own views name this process; None: as the service.
        """
        pool = await asyncpg.create_pool(
            url,
            min_size=0,
            max_size=pool_size,
            timeout=5,
            command_timeout=statement_timeout_seconds + 1,
            max_inactive_connection_lifetime=60,
            reset=_keep_session,
            server_settings={"application_name": f"koinonia-{application or service}"},
        )
        return cls(
            pool,
            service,
            url,
            direct_url or url,
            acquire_timeout_seconds=acquire_timeout_seconds,
            statement_timeout_seconds=statement_timeout_seconds,
        )

    async def close(self) -> None:
        """Wait a moment for transactions under way, then close every connection."""
        try:
            async with asyncio.timeout(5):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    def tenant(
        self, church_id: UUID, *, isolation: Isolation = "READ COMMITTED", timeout_seconds: float | None = None
    ) -> AbstractAsyncContextManager[Transaction]:
        """A transaction that sees and writes one church's rows."""
        return self._transaction(church_id, isolation, timeout_seconds)

    def across_churches(
        self, *, isolation: Isolation = "READ COMMITTED", timeout_seconds: float | None = None
    ) -> AbstractAsyncContextManager[Transaction]:
        """A transaction of the service's cross-church role: claims, receipts, relay, inbox; named tables only."""
        return self._transaction(None, isolation, timeout_seconds)

    @asynccontextmanager
    async def _transaction(
        self, church_id: UUID | None, isolation: Isolation, timeout_seconds: float | None
    ) -> AsyncIterator[Transaction]:
        # A UUID and the service's own name: nothing here comes from outside, and the simple protocol takes one trip.
        scope = (
            f"SET LOCAL ROLE koinonia_{self.service}_across"
            if church_id is None
            else f"SET LOCAL koinonia.church_id = '{UUID(int=church_id.int)}'"
        )
        async with self._connection() as connection, asyncio.timeout(timeout_seconds or self._transaction_seconds):
            try:
                await connection.execute(f"BEGIN ISOLATION LEVEL {isolation}; {scope}; {self._limits}")
                transaction = Transaction(connection, church_id, self.service)
                yield transaction
                await transaction.commit()
            except asyncpg.ReadOnlySQLTransactionError:
                # The server has become a replica: none of the connections leads to the primary any more.
                await _roll_back(connection)
                await self._pool.expire_connections()
                raise
            except BaseException:
                await _roll_back(connection)
                raise

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        started = time.perf_counter()
        try:
            connection = await self._pool.acquire(timeout=self._acquire_timeout_seconds)
        except TimeoutError:
            metrics.pool_failures_total.add(1, {"reason": "exhausted"})
            raise DependencyUnavailable("no database connection became free in time", retry_after_seconds=1) from None
        except OSError as error:
            metrics.pool_failures_total.add(1, {"reason": "unreachable"})
            raise DependencyUnavailable("the database does not answer", retry_after_seconds=1) from error
        metrics.pool_wait_seconds.record(time.perf_counter() - started)
        try:
            yield connection
        finally:
            await self._pool.release(connection)

    def pool_figures(self) -> dict[str, int]:
        """Connections: ``size``, ``idle``, ``limit``."""
        return {"size": self._pool.get_size(), "idle": self._pool.get_idle_size(), "limit": self._pool.get_max_size()}


async def _roll_back(connection: Connection) -> None:
    if connection.is_closed():
        return
    try:
        # Shielded and short: a cancelled request must not hand a broken transaction to the next one.
        async with asyncio.timeout(2):
            await asyncio.shield(connection.execute("ROLLBACK"))
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()


async def _keep_session(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Every transaction sets what it needs with SET LOCAL, so a connection comes back clean without a round trip."""
