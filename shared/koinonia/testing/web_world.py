"""A small world to test the web layer in: a service of notes behind it, with a real database."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import aiohttp
from aiohttp import web
from typing_extensions import override

from koinonia import clock
from koinonia.api import Endpoint, NoQuery, Request, Response
from koinonia.api.endpoint import MANAGERS
from koinonia.db import Database, Transaction, statement
from koinonia.errors import FieldError, NotFound
from koinonia.ids import new_id
from koinonia.security import Keys
from koinonia.security.identity import HEADER, Identity, Role, sign_identity
from koinonia.web import Call, Handler, Probe, Raw, Server, build_app, read_body, signed_identity

SERVICE = "messaging"
TABLES = """
SET ROLE koinonia_messaging_owner;
SET search_path = messaging, pg_temp;
CALL pg_temp.create_infrastructure();
CREATE TABLE notes (church_id uuid NOT NULL, id uuid PRIMARY KEY, text varchar(100) NOT NULL);
CALL pg_temp.protect('notes');
"""


class NoteRequest(Request, frozen=True, kw_only=True):
    """A note to keep, if it is not too late."""

    text: str
    not_after: datetime | None = None

    @override
    def check(self) -> Iterator[FieldError]:
        if self.not_after is not None and self.not_after < clock.now():
            yield FieldError("notAfter", "Is over")


class Note(Response, frozen=True, kw_only=True):
    """A note that is kept."""

    id: UUID
    text: str


CREATE = Endpoint(
    name="notes.create",
    method="POST",
    path="/notes",
    owner="messaging",
    summary="",
    request=NoteRequest,
    response=Note,
    status=201,
    roles=MANAGERS,
    idempotent=True,
    body_limit=4096,
)
GET = Endpoint(name="notes.get", method="GET", path="/notes/{id}", owner="messaging", summary="", response=Note)
DELETE = Endpoint(
    name="notes.delete", method="DELETE", path="/notes/{id}", owner="messaging", summary="", status=204, idempotent=True
)
RAW = Endpoint(
    name="notes.raw",
    method="POST",
    path="/raw",
    owner="messaging",
    summary="",
    access="public",
    raw_body=True,
    body_limit=4096,
)

INSERT = statement("notes.insert", "INSERT INTO notes (church_id, id, text) VALUES ($1, $2, $3)")
FIND = statement("notes.find", "SELECT id, text FROM notes WHERE id = $1")
REMOVE = statement("notes.remove", "DELETE FROM notes WHERE id = $1")
COUNT = statement("notes.count", "SELECT count(*) FROM notes")


@dataclass
class Notes:
    """The service of notes as a test sees it."""

    database: Database
    keys: Keys
    church_id: UUID
    principal_id: UUID = field(default_factory=new_id)
    url: str = ""
    session: aiohttp.ClientSession = field(init=False)
    server: Server = field(init=False)
    trouble: Any = None  # awaited by the create handler after its insert
    confirmation: Any = None  # awaited after the create handler's commit: another answer, or None

    def app(self) -> web.Application:
        return build_app(
            {
                CREATE: Handler(self.create, rebuild=self.view, afterwards=self.confirm),
                GET: self.get,
                DELETE: self.delete,
                RAW: Raw(self.raw),
            },
            identify=signed_identity(self.keys),
            probe=Probe(service=SERVICE, database=self.database),
            database=self.database,
        )

    async def create(self, call: Call[NoteRequest, NoQuery], tx: Transaction) -> Note:
        note = Note(id=new_id(), text=call.body.text)
        await tx.execute(INSERT, tx.tenant, note.id, note.text)
        if self.trouble is not None:
            await self.trouble()
        call.made(note.id)
        return note

    async def confirm(self, call: Call[NoteRequest, NoQuery]) -> Any:
        return None if self.confirmation is None else await self.confirmation(call)

    async def get(self, call: Call[None, NoQuery], tx: Transaction) -> Note:
        return await self.view(call, tx, call.path["id"])

    async def view(self, _call: Call[Any, Any], tx: Transaction, note_id: UUID) -> Note:
        row = await tx.fetch_row(FIND, note_id)
        if row is None:
            raise NotFound
        return Note(id=row["id"], text=row["text"])

    async def delete(self, call: Call[None, NoQuery], tx: Transaction) -> None:
        if not await tx.execute(REMOVE, call.path["id"]):
            raise NotFound

    async def raw(self, request: web.Request, _caller: Identity | None) -> web.StreamResponse:
        return web.Response(body=await read_body(request, RAW.body_limit), content_type="application/octet-stream")

    async def count(self) -> int:
        async with self.database.tenant(self.church_id) as tx:
            return int(await tx.fetch_value(COUNT))

    def identity(self, method: str, path: str, role: Role = "admin", seconds: float = 30, **changes: Any) -> str:
        identity = Identity(
            church_id=changes.get("church_id", self.church_id),
            principal_id=changes.get("principal_id", self.principal_id),
            principal_kind="session",
            role=role,
            mfa_verified=False,
            address="203.0.113.7",
            request_id="test",
            expires_at=clock.now() + timedelta(seconds=seconds),
            method=method,
            path=path,
        )
        return sign_identity(self.keys, identity)

    async def call(
        self, method: str, path: str, *, role: Role = "admin", headers: dict[str, str] | None = None, **options: Any
    ) -> aiohttp.ClientResponse:
        """A request as the gateway would forward it; ``json`` or ``data`` as in aiohttp."""
        identity = {HEADER: self.identity(method, unquote(path.partition("?")[0]), role)}
        response = await self.session.request(
            method, self.url + path, headers={**identity, **(headers or {})}, **options
        )
        await response.read()
        return response
