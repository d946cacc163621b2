"""Requests about imports: a file comes in pieces, and is judged in the request or in the background."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import msgspec
from aiohttp import web

from koinonia.api import Endpoint, NoQuery
from koinonia.api import members as api
from koinonia.api.endpoint import JSON, MEBIBYTE
from koinonia.api.members import ImportQuery, ImportResult, ImportRowError, MemberImportRequest
from koinonia.db import Database, Transaction
from koinonia.errors import AuthenticationFailed, KoinoniaError, NotFound, PayloadTooLarge, ValidationFailed
from koinonia.security import Identity, Keys
from koinonia.web import Answer, Call, Handler, Raw, decoding
from koinonia.web.tables import send_table
from koinonia_messaging import imports
from koinonia_messaging.domain.sheets import Sheet
from koinonia_messaging.intake import Intake
from koinonia_messaging.store import imports as import_store

IMPORT_SECONDS = 120.0  # all rows go in together or none; less than the gateway waits for a large request
REQUEST_BYTES = 16 * MEBIBYTE
BLOCK_BYTES = 256 * 1024  # that are read of a table at a time
REPORT_ROWS = 1000

_REPORT_HEADER = ("line", "field", "reason")


@dataclass(slots=True)
class File:
    """What has come: the rows that are held, or the import that they are laid by for."""

    intake: Intake
    group_ids: list[UUID] = field(default_factory=list)
    mapping: dict[str, str | None] | None = None


@dataclass(frozen=True, slots=True)
class Imports:
    """What the handlers need; ``bell`` wakes the loop that works on imports."""

    database: Database
    keys: Keys
    bell: asyncio.Event

    def handlers(self) -> Mapping[Endpoint, Handler | Raw]:
        """The handlers by endpoint."""
        take = Handler(self.take, rebuild=self.rebuild, timeout_seconds=IMPORT_SECONDS, receive=self.receive)
        return {api.IMPORT: take, api.GET_IMPORT: Handler(self.get), api.IMPORT_REPORT: Raw(self.report)}

    @asynccontextmanager
    async def receive(self, call: Call[None, ImportQuery], pieces: AsyncIterator[bytes]) -> AsyncIterator[File]:
        """Read the file, and forget what was laid by where its import does not start."""
        file = File(Intake(self.database, self.keys, call.identity.church_id))
        try:
            await self._take(file, call, pieces)
            yield file
        finally:
            await file.intake.discard()

    async def _take(self, file: File, call: Call[None, ImportQuery], pieces: AsyncIterator[bytes]) -> None:
        try:
            if decoding.media_type(call.endpoint, call.request.headers.get(decoding.CONTENT_TYPE)) == JSON:
                await _take_json(file, call, pieces)
            else:
                await _take_table(file, call.query, pieces)
        except KoinoniaError:
            # Who is still sending would not hear the answer: the connection ends under what has not been read.
            async for _ in pieces:
                pass
            raise

    async def take(self, call: Call[File, ImportQuery], tx: Transaction) -> ImportResult | Answer:
        file, intake = call.body, call.body.intake
        if call.query.dry_run:
            return await imports.rehearse(tx, iter(intake.held), file.group_ids, self.keys, file.mapping)
        if intake.import_id is None:
            import_id, result = await imports.run(tx, call.identity, iter(intake.held), file.group_ids, self.keys)
            call.made(import_id)
            return result
        call.made(intake.import_id)
        started = await imports.start(tx, call.identity, intake.import_id, intake.count, file.group_ids)
        tx.after_commit(intake.let_go)
        tx.after_commit(self.bell.set)
        return Answer(body=started, status=202)

    async def rebuild(
        self, call: Call[File, ImportQuery], tx: Transaction, made_id: UUID | None
    ) -> ImportResult | Answer:
        return await self.take(call, tx) if made_id is None else await _fetch(tx, made_id)

    async def get(self, call: Call[None, NoQuery], tx: Transaction) -> ImportResult:
        return await _fetch(tx, call.path["id"])

    async def report(self, request: web.Request, caller: Identity | None) -> web.StreamResponse:
        """The bad rows of an import, as a table."""
        if caller is None:
            raise AuthenticationFailed
        decoding.query(api.IMPORT_REPORT, request.query)  # it takes none
        import_id = UUID(request.match_info["id"])
        return await send_table(request, "import-report.csv", self._report(caller.church_id, import_id))

    async def _report(self, church_id: UUID, import_id: UUID) -> AsyncIterator[list[tuple[str, ...]]]:
        async with self.database.tenant(church_id) as tx:
            inline = (await _fetch(tx, import_id)).errors
            page = await import_store.list_errors(tx, import_id, (0, 0), REPORT_ROWS)
        yield [_REPORT_HEADER]
        if not page:
            yield [_shown(error) for error in inline]
        while page:
            yield [_shown(error) for error, _ in page]
            async with self.database.tenant(church_id) as tx:
                page = await import_store.list_errors(tx, import_id, page[-1][1], REPORT_ROWS)


async def _fetch(tx: Transaction, import_id: UUID) -> ImportResult:
    found = await import_store.find(tx, import_id)
    if found is None:
        raise NotFound
    return found


def _shown(error: ImportRowError) -> tuple[str, ...]:
    return str(error.line or error.row), error.field, error.message


async def _take_json(file: File, call: Call[None, ImportQuery], pieces: AsyncIterator[bytes]) -> None:
    raw = bytearray()
    async for piece in pieces:
        raw += piece
        if len(raw) > REQUEST_BYTES:
            raise PayloadTooLarge
    content_type = call.request.headers.get(decoding.CONTENT_TYPE)
    # Off the event loop: seconds of scanning that other requests must not wait for.
    body: MemberImportRequest = await asyncio.to_thread(decoding.body, call.endpoint, bytes(raw), content_type)
    if call.query.mapping is not None:
        raise ValidationFailed.field("mapping", "Is for tables alone")
    file.group_ids = body.group_ids
    rows = list(enumerate(body.members, start=1))
    if call.query.dry_run:
        file.intake.show(rows)
    else:
        await file.intake.add(rows, background=call.query.background)


async def _take_table(file: File, query: ImportQuery, pieces: AsyncIterator[bytes]) -> None:
    sheet = Sheet(_mapping(query.mapping), lenient=query.dry_run)
    size = 0
    block = bytearray()
    async for piece in pieces:
        size += len(piece)
        block += piece
        if len(block) >= BLOCK_BYTES:
            await _read(file, sheet, query, bytes(block), size)
            block.clear()
    await _read(file, sheet, query, bytes(block), size, final=True)
    if query.dry_run and sheet.columns is not None:
        file.mapping = sheet.columns.mapping


async def _read(file: File, sheet: Sheet, query: ImportQuery, block: bytes, size: int, *, final: bool = False) -> None:
    rows = await asyncio.to_thread(lambda: sheet.feed(block, final=final))
    if query.dry_run:
        file.intake.show(rows)
    else:
        await file.intake.add(rows, background=query.background or size > REQUEST_BYTES)


def _mapping(text: str | None) -> dict[str, str | None]:
    if text is None:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, str | None])
    except (msgspec.DecodeError, UnicodeEncodeError):
        raise ValidationFailed.field("mapping", "Must be a JSON object of texts and nulls") from None
