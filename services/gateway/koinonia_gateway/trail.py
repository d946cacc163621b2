"""A recipient's trail: each service is asked inward for its part, and the parts are put together here.

delivery is asked first: whose recipient it is, and the question to the others, stands in its part. Without delivery
there is no trail; whoever else does not answer in time is named as missing.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

import aiohttp
import msgspec
import structlog

from koinonia import clock
from koinonia.api import Endpoint
from koinonia.api.messages import Trail
from koinonia.db import Database
from koinonia.errors import DependencyUnavailable, NotFound
from koinonia.security.identity import HEADER, Identity, sign_identity
from koinonia.security.keys import Keys
from koinonia.trail import ASKED, BEGIN, TELL, DeliveryPart, Part, Question, actors, merge
from koinonia.web import deadlines
from koinonia_gateway.forwarding import Owner
from koinonia_gateway.store.actors import list_names

log = structlog.get_logger()

T = TypeVar("T")

_SECONDS = 5.0
_TIMEOUT = aiohttp.ClientTimeout(total=_SECONDS, sock_connect=1.0)
_IDENTITY_LIFE = timedelta(seconds=30)


class Trails:
    """Asks the services, and names who did what."""

    def __init__(self, database: Database, keys: Keys, owners: Mapping[str, Owner]) -> None:
        self._database = database
        self._keys = keys
        self._owners = owners

    async def show(self, caller: Identity, message_id: UUID, recipient_id: UUID) -> Trail:
        """The trail of a recipient of the caller's church.

        Raises:
            NotFound: the church has no such recipient of this message.
            DependencyUnavailable: delivery does not answer.
        """
        begun = await self._ask(
            "delivery", BEGIN, caller, DeliveryPart, path=BEGIN.url(id=message_id, recipientId=recipient_id)
        )
        answers = await asyncio.gather(*(self._tell(name, caller, begun.question) for name in ASKED))
        parts = [begun.part, *(part for part in answers if part is not None)]
        async with self._database.tenant(caller.church_id) as tx:
            names = await list_names(tx, actors(parts))
        return Trail(
            message_id=message_id,
            recipient_id=recipient_id,
            status=begun.question.status,
            entries=merge(parts, names),
            missing=[name for name, part in zip(ASKED, answers, strict=True) if part is None],
        )

    async def _tell(self, name: str, caller: Identity, question: Question) -> Part | None:
        try:
            return await self._ask(name, TELL, caller, Part, path=TELL.path, body=question)
        except DependencyUnavailable:
            log.warning("trail_part_missing", owner=name, recipient_id=str(question.recipient_id))
            return None

    async def _ask(
        self, name: str, endpoint: Endpoint, caller: Identity, kind: type[T], *, path: str, body: object = None
    ) -> T:
        """What one of the replicas answers. Nothing is changed there: after any failure the next may be asked."""
        owner = self._owners[name]
        expires_at = clock.now() + _IDENTITY_LIFE
        identity = msgspec.structs.replace(caller, method=endpoint.method, path=path, expires_at=expires_at)
        headers = {
            HEADER: sign_identity(self._keys, identity),
            "Content-Type": "application/json",
            deadlines.HEADER: deadlines.header(_SECONDS),
        }
        data = msgspec.json.encode(body) if body is not None else None
        for url in await owner.replicas.in_turn():
            try:
                async with owner.session.request(
                    endpoint.method, url + path, data=data, headers=headers, timeout=_TIMEOUT
                ) as answer:
                    if answer.status == 404:
                        raise NotFound
                    if answer.status == 200:
                        return msgspec.json.decode(await answer.read(), type=kind)
                    log.warning("trail_part_refused", owner=owner.name, status=answer.status)
            except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
                log.warning("trail_part_failed", owner=owner.name, reason=type(error).__name__)
        raise DependencyUnavailable(f"The {owner.name} service does not answer; try again in a moment.")
