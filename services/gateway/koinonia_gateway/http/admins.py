"""A church's admins, and the door through which who is invited comes in."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from koinonia.api import Endpoint, admins
from koinonia.api.admins import AdminPatch, AdminUser, InvitationAcceptance, InvitationRequest
from koinonia.api.common import NoQuery, Page, PageQuery
from koinonia.db import Transaction
from koinonia.errors import RateLimited, ValidationFailed
from koinonia.security import passwords as password_rules
from koinonia.security import tokens
from koinonia.security.passwords import Passwords
from koinonia.service import Parts
from koinonia.web import Call, Handler
from koinonia_gateway import admins as cases
from koinonia_gateway.audit import Actor, Refusals
from koinonia_gateway.callers import Callers, actor_of, limited_address_of
from koinonia_gateway.limits import Limiter
from koinonia_gateway.settings import GatewaySettings
from koinonia_gateway.store import invitations

_TRIES_PER_ADDRESS = 20  # as of logins: times the rate of one account
_INVITATIONS_PER_CHURCH = 20  # times the rate of one recipient
_CHURCHES_PER_RECIPIENT = 20  # times it, from all churches: a stranger's throw-away church closes nobody's address


class Admins:
    """The routes of admins."""

    def __init__(
        self,
        parts: Parts[GatewaySettings],
        callers: Callers,
        limiter: Limiter,
        passwords: Passwords,
        *,
        refusals: Refusals,
    ) -> None:
        self._database = parts.database
        self._keys = parts.keys
        self._callers = callers
        self._limiter = limiter
        self._passwords = passwords
        self._refusals = refusals
        self._rate = parts.settings.rate("auth").times(_TRIES_PER_ADDRESS)
        self._invitations = parts.settings.rate("invitation")

    def handlers(self) -> Mapping[Endpoint, Handler]:
        return {
            admins.LIST: Handler(self.list_page),
            admins.INVITE: Handler(self.invite, rebuild=self.show_again),
            admins.CHANGE: Handler(self.change, rebuild=self.show_again),
            admins.REMOVE: Handler(self.remove),
            admins.ACCEPT: Handler(self.accept, transaction=False),
        }

    async def list_page(self, call: Call[None, PageQuery], tx: Transaction) -> Page[AdminUser]:
        """Who works for the church, and who is invited."""
        return await cases.list_page(tx, self._keys, call.query)

    async def invite(self, call: Call[InvitationRequest, NoQuery], tx: Transaction) -> AdminUser:
        """One more."""
        actor = Actor.of(call.identity)
        with self._refusals.recorded(tx.tenant, actor, "admin.invited", None, role=call.body.role):
            invited = await cases.invite(tx, self._keys, call.body, actor)
        await self._count_invitation(tx.tenant, call.body.email)
        call.made(invited.id)
        return invited

    async def change(self, call: Call[AdminPatch, NoQuery], tx: Transaction) -> AdminUser:
        """Another role."""
        admin_id, role, actor = call.path["id"], call.body.role, Actor.of(call.identity)
        with self._refusals.recorded(tx.tenant, actor, "admin.role_changed", ("admin", admin_id), after=role):
            changed = await cases.change_role(tx, self._keys, admin_id, role, actor)
        call.made(admin_id)
        return changed

    async def remove(self, call: Call[None, NoQuery], tx: Transaction) -> None:
        """One less."""
        admin_id, church_id, actor = call.path["id"], tx.tenant, Actor.of(call.identity)
        with self._refusals.recorded(church_id, actor, "admin.removed", ("admin", admin_id)):
            ended = await cases.remove(tx, admin_id, actor)

        def forget() -> None:
            for session_id in ended:
                self._callers.forget_session(church_id, session_id)

        tx.after_commit(forget)

    async def show_again(self, _call: Call[Any, NoQuery], tx: Transaction, made_id: UUID) -> AdminUser:
        return await cases.show(tx, self._keys, made_id)

    async def accept(self, call: Call[InvitationAcceptance, NoQuery]) -> AdminUser:
        """A login for who has the token. The password is hashed with no transaction open."""
        with self._passwords.place():
            standing = await self._limiter.hit(self._rate, f"auth:{limited_address_of(call.request)}")
            if standing.exceeded:
                raise RateLimited(retry_after_seconds=standing.seconds_left)
            return await self._join(call.body, actor_of(call.request))

    async def _join(self, request: InvitationAcceptance, actor: Actor) -> AdminUser:
        async with self._database.across_churches() as tx:
            found = await invitations.find(tx, tokens.digest_opaque(request.token))
        if found is None:
            self._refusals.record(None, actor.did("admin.joined", outcome="failure", reason="InvitationOver"))
            raise cases.InvitationOver
        church_id, admin_id = found["church_id"], found["admin_id"]
        with self._refusals.recorded(church_id, actor, "admin.joined", ("admin", admin_id)):
            cases.check_invitation(found)
            email = self._keys.decrypt(found["email_ciphertext"], church_id, "email")
            problem = password_rules.problem(request.password, church_name=found["church_name"], email=email)
            if problem is not None:
                raise ValidationFailed.field("password", problem)
            hashed = await self._passwords.hash(request.password)
            async with self._database.tenant(church_id) as tx:
                return await cases.join(tx, self._keys, request, password_hash=hashed, actor=actor)

    async def _count_invitation(self, church_id: UUID, email: str) -> None:
        """Nobody gets one e-mail after the other in our name: few from one church, and no endless number from all.

        Counted is what goes out; what is beyond a limit is undone with its transaction.

        Raises:
            RateLimited: this church has invited too many, or this address too often, or all churches did.
        """
        recipient = self._keys.login_index(email).hex()
        for rate, key in (
            (self._invitations, f"invited:{church_id}:{recipient}"),
            (self._invitations.times(_INVITATIONS_PER_CHURCH), f"invitations:{church_id}"),
            (self._invitations.times(_CHURCHES_PER_RECIPIENT), f"invited:{recipient}"),
        ):
            standing = await self._limiter.hit(rate, key)
            if standing.exceeded:
                raise RateLimited(retry_after_seconds=standing.seconds_left)
