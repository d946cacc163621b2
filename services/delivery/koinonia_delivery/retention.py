"""Each church's own retention: what was sent to a person goes once it is older than the church keeps such things.

A pass begins where the last one ended, so that it reads a day's copies and not all that there are. It may be broken off
anywhere, and two replicas may do it at once: what is deleted already is not found again.
"""

import structlog

from koinonia import clock
from koinonia.db import Database
from koinonia.db.archives import ArchiveDamaged, Archives
from koinonia.files import FilesUnavailable
from koinonia_delivery.erasing import delete_older
from koinonia_delivery.store import retention as store

log = structlog.get_logger()

EVERY_SECONDS = 3600.0


async def keep(database: Database, archives: Archives) -> None:
    """Delete what is due. A church of which something old is still open is looked at again from there on."""
    async with database.across_churches() as tx:
        due = await store.list_due(tx, clock.now())
    for each in due:
        try:
            erased = await delete_older(database, archives, each.church_ids, each.before, since=each.since)
        except (FilesUnavailable, ArchiveDamaged) as error:
            log.error("retention_postponed", churches=len(each.church_ids), reason=str(error))
            continue
        async with database.across_churches() as tx:
            until = {church_id: erased.open_since.get(church_id, each.before) for church_id in each.church_ids}
            await store.note(tx, until)
        log.info("retention_kept", churches=len(each.church_ids), stored=erased.stored, archived=erased.archived)
