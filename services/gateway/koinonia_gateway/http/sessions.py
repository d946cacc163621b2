"""The browser sessions of the admin who asks."""

from collections.abc import Mapping

from koinonia.api import Endpoint, sessions
from koinonia.api.common import NoQuery, Page, PageQuery
from koinonia.api.sessions import BrowserSession, SessionEnd
from koinonia.db import Database, Transaction
from koinonia.web import Call, Handler
from koinonia_gateway import sessions as cases
from koinonia_gateway.audit import Actor
from koinonia_gateway.callers import Callers
from koinonia_gateway.confirmation import Confirmation


class SessionRoutes:
    """The routes of one's own sessions."""

    def __init__(self, database: Database, callers: Callers, confirmation: Confirmation) -> None:
        self._database = database
        self._callers = callers
        self._confirmation = confirmation

    def handlers(self) -> Mapping[Endpoint, Handler]:
        return {
            sessions.LIST: Handler(self.list_page),
            sessions.END: Handler(self.end, transaction=False),
            sessions.END_OTHERS: Handler(self.end_others, transaction=False),
        }

    async def list_page(self, call: Call[None, PageQuery], tx: Transaction) -> Page[BrowserSession]:
        """A page of them."""
        own = self._confirmation.session_of(call)
        return await cases.list_page(tx, own.admin_id, own.id, call.query)

    async def end(self, call: Call[SessionEnd, NoQuery]) -> None:
        """The end of one, for the password."""
        own, session_id = self._confirmation.session_of(call), call.path["id"]
        await self._confirmation.confirm(call, call.body.password, "password")
        async with self._database.tenant(own.church_id) as tx:
            await cases.end(tx, own.admin_id, session_id, Actor.of(call.identity))
        self._callers.forget_session(own.church_id, session_id)

    async def end_others(self, call: Call[SessionEnd, NoQuery]) -> None:
        """The end of all others, for the password."""
        own = self._confirmation.session_of(call)
        await self._confirmation.confirm(call, call.body.password, "password")
        async with self._database.tenant(own.church_id) as tx:
            ended = await cases.end_others(tx, own.admin_id, own.id, Actor.of(call.identity))
        for session_id in ended:
            self._callers.forget_session(own.church_id, session_id)
