"""Rows of an import as they arrive: held while they fit into the request, else laid by for the background.

What is laid by is encrypted, in transactions of its own: none is open while a sender is waited for.
"""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import structlog

from koinonia.api.members import BACKGROUND_ROWS, IMPORT_ROWS
from koinonia.db import Database
from koinonia.errors import Conflict, ValidationFailed, is_transient
from koinonia.ids import new_id
from koinonia.security import Keys
from koinonia_messaging.domain.pieces import PIECE_ROWS, packed
from koinonia_messaging.domain.rows import Row
from koinonia_messaging.store import imports as import_store

FILES_AT_ONCE = 20
"""Of a church; looser than what starts: a request that was answered before is to come as far as its key."""

log = structlog.get_logger()


class Intake:
    """Takes the rows of one import."""

    def __init__(self, database: Database, keys: Keys, church_id: UUID) -> None:
        self.held: list[Row] = []
        self.count = 0
        self.import_id: UUID | None = None  # of what lies by
        self._database = database
        self._keys = keys
        self._church_id = church_id
        self._pieces = 0

    async def add(self, rows: Sequence[Row], *, background: bool) -> None:
        """Take the next rows; once some are laid by, all are.

        Raises:
            ValidationFailed: there are too many.
            Conflict: too many files are coming.
        """
        self.count += len(rows)
        if self.count > BACKGROUND_ROWS:
            raise ValidationFailed.field("body", f"At most {BACKGROUND_ROWS:,} rows")
        self.held += rows
        if background or self.import_id is not None or self.count > IMPORT_ROWS:
            await self._lay_by()

    def show(self, rows: Sequence[Row]) -> None:
        """Take the next rows for a dry run: so many as a request may have are looked at."""
        self.count += len(rows)
        self.held += rows[: IMPORT_ROWS - len(self.held)]

    async def discard(self) -> None:
        """Forget what lies by, unless its import has started.

        An answer does not wait for a database that is away: what stays is stale in an hour.
        """
        if self.import_id is None:
            return
        try:
            async with self._database.tenant(self._church_id) as tx:
                await import_store.discard(tx, self.import_id)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("import_not_discarded", import_id=str(self.import_id), reason=type(error).__name__)

    def let_go(self) -> None:
        """Its import has started: nothing is to be discarded."""
        self.import_id = None

    async def _lay_by(self) -> None:
        pieces = await asyncio.to_thread(self._sealed, self.held)
        self.held = []
        async with self._database.tenant(self._church_id) as tx:
            if self.import_id is None:
                import_id = new_id()
                if not await import_store.open_(tx, import_id, FILES_AT_ONCE):
                    raise Conflict(f"{FILES_AT_ONCE} files are coming; wait until one of them is there.")
                self.import_id = import_id
            if pieces:
                await import_store.add_pieces(tx, self.import_id, self._pieces, pieces)
        self._pieces += len(pieces)

    def _sealed(self, rows: Sequence[Row]) -> list[bytes]:
        return [
            self._keys.encrypt(packed(rows[start : start + PIECE_ROWS]), self._church_id, "rows")
            for start in range(0, len(rows), PIECE_ROWS)
        ]
