"""What each queue holds, also what its consumers have in hand, which AMQP itself does not tell."""

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from koinonia.bus.errors import BrokerUnavailable, QueueMissing
from koinonia.bus.topology import QUEUES
from koinonia.servers import ServersUnavailable
from koinonia.servers.broker_admin import BrokerAdmin

LAG_SECONDS = 10.0
"""How old a count may be. RabbitMQ counts a quorum queue anew every 5 s: twice that."""


class QueueCounts(BrokerAdmin):
    """Asks the management API, which every installation has: ``koinonia migrate`` makes the broker's users by it."""

    def __init__(self, url: str) -> None:
        with _management_errors():
            super().__init__(url)

    async def count(self, vhost: str) -> dict[str, int]:
        """The messages of each service's queue, as they were up to ``LAG_SECONDS`` ago.

        Those that wait, those that a consumer has not acknowledged, and those on their way to the dead letters.

        Raises:
            QueueMissing: there is no such queue.
            BrokerUnavailable: no node has a queue's messages now.
            ServersUnavailable: the management API cannot be asked.
        """
        with _management_errors():
            counts = await self.queue_totals(vhost)
        found: dict[str, int] = {}
        for name in QUEUES:
            if name not in counts:
                raise QueueMissing(f"there is no queue {name}")
            count = counts[name]
            if count is None:
                raise BrokerUnavailable(f"the queue {name} is down")
            found[name] = count
        return found


@contextmanager
def _management_errors() -> Iterator[None]:
    """Say in one line that the management API cannot be asked."""
    try:
        yield
    except aiohttp.ClientResponseError as error:
        raise ServersUnavailable(f"KOINONIA_AMQP_MANAGEMENT_URL: it answers {error.status} {error.message}") from error
    except ValueError as error:  # it is no URL, or what answers speaks no JSON
        raise ServersUnavailable("KOINONIA_AMQP_MANAGEMENT_URL: it is not RabbitMQ's management API") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ServersUnavailable(f"KOINONIA_AMQP_MANAGEMENT_URL: {str(error) or 'no answer'}") from error
