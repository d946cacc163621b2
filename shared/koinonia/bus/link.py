"""One connection to the broker, made when it is first needed and made anew by the next caller after it was lost.

There is no background reconnection: whoever needs the broker asks for a channel, and either gets one of a live
connection or ``BrokerUnavailable``. So nothing is restored behind a caller's back, and a delivery can only be
acknowledged on the channel it came from.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractQueue
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelClosed, ChannelInvalidStateError, ChannelNotFoundEntity
from yarl import URL

from koinonia.bus.errors import BrokerUnavailable, ChannelLost, QueueMissing

log = structlog.get_logger()

CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 5.0
RPC_SECONDS = 10.0
HEARTBEAT_SECONDS = 10  # a dead peer is found after three of them
FAIL_FAST_SECONDS = 0.5  # after a failed try, others are refused at once for this long

# Without the RuntimeError that aio-pika counts among them: a bug of ours is no broker that is away.
_LOST = (
    *(each for each in CONNECTION_EXCEPTIONS if each is not RuntimeError),
    *(ChannelInvalidStateError, TimeoutError),
)
_LIBRARIES = ("aiormq", "aio_pika", "uvloop")


class Outage:
    """Whether it was told that the broker is away: once, whoever of a process needs it and however often they try."""

    def __init__(self) -> None:
        self._is_told = False

    def began(self, connection: str, error: Exception) -> None:
        """A connection cannot be made."""
        if not self._is_told:
            self._is_told = True
            log.warning("broker_away", connection=connection, reason=str(error))

    def ended(self) -> None:
        """A connection was made."""
        self._is_told = False


class Link:
    """A connection with a name that operators see in the broker's list; those of a process tell of one ``outage``."""

    def __init__(self, url: str, name: str, outage: Outage | None = None) -> None:
        self._url = URL(url).update_query(heartbeat=HEARTBEAT_SECONDS, name=name)
        self._name = name
        self._outage = outage or Outage()
        self._connection: AbstractConnection | None = None
        self._making = asyncio.Lock()
        self._refuse_until = 0.0
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    async def channel(self, *, confirms: bool = False) -> AbstractChannel:
        """Open a channel; with ``confirms`` it raises for what the broker returns as unroutable.

        Raises:
            BrokerUnavailable: no connection can be had now, or it was lost on the way.
        """
        connection = await self._live_connection()
        try:
            with broker_errors():
                async with asyncio.timeout(CONNECT_SECONDS):
                    channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
                    await channel.initialize()
                    return channel
        except BrokerUnavailable:
            if self._connection is connection:
                self.drop()
            raise

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None and self._connection.connected.is_set()

    async def is_blocked(self) -> bool:
        """Whether the broker has told this connection that it takes no messages now (its memory or disk is short)."""
        transport = None if self._connection is None else self._connection.transport
        if transport is None:
            return False
        try:
            # Returns without waiting unless the broker has sent connection.blocked.
            async with asyncio.timeout(0):
                await transport.ready()
        except TimeoutError:
            return True
        return False

    def drop(self) -> None:
        """Give up this connection, which may be dead without knowing it; the next caller makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            task = asyncio.create_task(_close(connection))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close it for good."""
        self._closed = True
        self.drop()
        await asyncio.gather(*self._closing)

    async def _live_connection(self) -> AbstractConnection:
        async with self._making:
            if self._connection is not None and self.is_connected:
                return self._connection
            if self._closed:
                raise BrokerUnavailable("the connection to the broker was closed")
            if asyncio.get_running_loop().time() < self._refuse_until:
                raise BrokerUnavailable("the broker did not answer a moment ago", retry_after_seconds=1)
            self.drop()
            self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> AbstractConnection:
        try:
            with broker_errors():
                connection = await connect(self._url)
        except BrokerUnavailable as error:
            self._refuse_until = asyncio.get_running_loop().time() + FAIL_FAST_SECONDS
            self._outage.began(self._name, error)
            raise
        self._outage.ended()
        log.info("broker_connected", connection=self._name)
        return connection


async def connect(url: URL | str, *, timeout: float = CONNECT_SECONDS) -> AbstractConnection:
    """A connection; one that cannot be made is closed, or would close itself whenever the garbage is collected."""
    connection = aio_pika.Connection(URL(url))
    try:
        await connection.connect(timeout=timeout)
    finally:
        if not connection.connected.is_set():
            await _close(connection)
    return connection


@contextmanager
def broker_errors() -> Iterator[None]:
    """Turn what aio-pika raises for a lost, refused or silent connection into ``BrokerUnavailable``.

    Where the broker closed the channel alone, over what was asked on it, it is ``ChannelLost``.
    """
    try:
        yield
    except asyncio.CancelledError:
        # aiormq hands its own cancellation on to whoever waits on a connection that it tears down.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise BrokerUnavailable("the connection to the broker was lost", retry_after_seconds=1) from None
    except ChannelClosed as error:
        raise ChannelLost(f"the broker closed the channel: {error}", retry_after_seconds=1) from error
    except Exception as error:
        if not _is_of_a_lost_connection(error):
            raise
        raise BrokerUnavailable(
            f"the broker does not answer ({type(error).__name__})", retry_after_seconds=1
        ) from error


def _is_of_a_lost_connection(error: Exception) -> bool:
    # A bare Exception is what aiormq gives to those who wait on a channel that ends without a reason.
    if isinstance(error, _LOST) or type(error) is Exception:
        return True
    # A bare RuntimeError is what it, or uvloop beneath it, says of a connection or a socket that was closed meanwhile.
    return type(error) is RuntimeError and _origin(error) in _LIBRARIES


def _origin(error: Exception) -> str:
    """The top package of the code that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


async def existing_queue(channel: AbstractChannel, name: str) -> AbstractQueue:
    """Look up a queue, with the number of its messages.

    Raises:
        QueueMissing: there is no such queue; the channel is closed.
        BrokerUnavailable: the broker does not answer.
    """
    with broker_errors():
        try:
            async with asyncio.timeout(RPC_SECONDS):
                return await channel.declare_queue(name, passive=True)
        except ChannelNotFoundEntity:
            raise QueueMissing(f"there is no queue {name}") from None


async def close_channel(channel: AbstractChannel) -> None:
    """Close a channel, which may be gone already; what was not acknowledged on it is delivered again."""
    with suppress(BrokerUnavailable), broker_errors():
        async with asyncio.timeout(CLOSE_SECONDS):
            await channel.close()


async def _close(connection: AbstractConnection) -> None:
    with suppress(BrokerUnavailable), broker_errors():
        async with asyncio.timeout(CLOSE_SECONDS):
            await connection.close()
