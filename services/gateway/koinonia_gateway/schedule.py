"""What runs by the clock: the report of waiting texts, and the end of what has expired."""

from datetime import datetime

import structlog

from koinonia import clock
from koinonia.bus import Publisher
from koinonia.db import Database
from koinonia.errors import is_transient
from koinonia.events import Envelope
from koinonia.events.gateway import BacklogReported
from koinonia.ids import new_id
from koinonia.life import Life
from koinonia_gateway import admins
from koinonia_gateway.domain import own_phones
from koinonia_gateway.intake import SERVICE
from koinonia_gateway.store import own_phones as phone_store
from koinonia_gateway.store import passwords as password_store
from koinonia_gateway.store import projections
from koinonia_gateway.store import sessions as session_store

log = structlog.get_logger()

REPORT_SECONDS = 2.0
PATIENCE_SECONDS = 3.0  # younger texts are on their way
TIDY_SECONDS = 600.0
TIDY_ROWS = 1000


class BacklogReport:
    """Tells while inbound texts wait for the broker, and once that none waits any more.

    A process tells that nothing waits when it begins, too: the one before it may have died between the two. It goes
    past the outbox, where it would wait behind what it reports.
    """

    def __init__(self, database: Database, publisher: Publisher, life: Life) -> None:
        self._database = database
        self._publisher = publisher
        self._life = life
        self._cleared = False

    async def run(self) -> None:
        """Look every two seconds until the process stops."""
        while not self._life.stopping.is_set():
            try:
                await self.look()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("backlog_not_reported", reason=type(error).__name__)
            await self._life.pause(REPORT_SECONDS)

    async def look(self) -> None:
        """Report what there is to report.

        Raises:
            DependencyUnavailable: the broker does not take it.
        """
        async with self._database.across_churches() as tx:
            oldest = await projections.find_oldest_inbound(tx)
        if oldest is None:
            if not self._cleared:
                await self._publish(None)
                self._cleared = True
        elif (clock.now() - oldest).total_seconds() > PATIENCE_SECONDS:
            self._cleared = False
            log.warning("inbound_backlog", oldest_inbound_at=oldest.isoformat())
            await self._publish(oldest)

    async def _publish(self, oldest: datetime | None) -> None:
        report = BacklogReported(oldest_inbound_at=oldest)
        await self._publisher.publish_events(Envelope(id=new_id(), time=clock.now(), data=report, service=SERVICE))


async def delete_expired(database: Database, life: Life) -> None:
    """Delete what has expired every ten minutes, until the process stops: sessions, tokens for forgotten passwords,
    invitations, codes for phones.
    """
    while not life.stopping.is_set():
        try:
            for delete in (session_store.delete_expired, password_store.delete_expired_resets):
                count = TIDY_ROWS
                while count == TIDY_ROWS:
                    async with database.across_churches() as tx:
                        count = await delete(tx, clock.now(), TIDY_ROWS)
            count = TIDY_ROWS
            while count == TIDY_ROWS:
                async with database.across_churches() as tx:
                    # An hour later: until then it counts.
                    count = await phone_store.delete_expired_codes(tx, clock.now() - own_phones.COUNTED, TIDY_ROWS)
            while await admins.end_expired_invitations(database, TIDY_ROWS) == TIDY_ROWS:
                pass
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("expired_not_deleted", reason=type(error).__name__)
        await life.pause(TIDY_SECONDS)
