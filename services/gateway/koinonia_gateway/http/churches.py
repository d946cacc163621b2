"""A church's settings, and its API keys."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from koinonia.api import Endpoint, auth, churches
from koinonia.api.auth import ApiKey, ApiKeyCreated, ApiKeyRequest, RotateQuery
from koinonia.api.churches import ChurchSettings, ChurchSettingsPatch
from koinonia.api.common import NoQuery, Page, PageQuery
from koinonia.db import Transaction
from koinonia.security.keys import Keys
from koinonia.web import Call, Handler
from koinonia_gateway import api_keys
from koinonia_gateway import churches as church_cases
from koinonia_gateway.audit import Actor, Refusals


async def get_settings(call: Call[None, NoQuery], tx: Transaction) -> ChurchSettings:
    """The settings, and whether the church can send."""
    return await church_cases.show(tx, call.path["id"])


async def patch_settings(call: Call[ChurchSettingsPatch, NoQuery], tx: Transaction) -> ChurchSettings:
    """Change them."""
    actor, verified = Actor.of(call.identity), call.identity.mfa_verified
    return await church_cases.change(tx, call.path["id"], call.body, actor, mfa_verified=verified)


async def rebuild_settings(call: Call[Any, NoQuery], tx: Transaction, _made_id: UUID | None) -> ChurchSettings:
    return await church_cases.show(tx, call.path["id"])


class ApiKeys:
    """The routes of API keys."""

    def __init__(self, keys: Keys, refusals: Refusals) -> None:
        self._keys = keys
        self._refusals = refusals

    def handlers(self) -> Mapping[Endpoint, Handler]:
        return {
            auth.LIST_API_KEYS: Handler(self.list_page),
            auth.CREATE_API_KEY: Handler(self.create, rebuild=self.show_again),
            auth.ROTATE_API_KEY: Handler(self.rotate, rebuild=self.show_again),
            auth.DELETE_API_KEY: Handler(self.revoke),
        }

    async def list_page(self, call: Call[None, PageQuery], tx: Transaction) -> Page[ApiKey]:
        """The keys."""
        return await api_keys.list_page(tx, call.query)

    async def create(self, call: Call[ApiKeyRequest, NoQuery], tx: Transaction) -> ApiKeyCreated:
        """A new key, shown this once."""
        actor = Actor.of(call.identity)
        with self._refusals.recorded(tx.tenant, actor, "api_key.created", None, role=call.body.role):
            created = await api_keys.create(tx, self._keys, call.body, actor)
        call.made(created.api_key.id)
        return created

    async def rotate(self, call: Call[None, RotateQuery], tx: Transaction) -> ApiKeyCreated:
        """A key's successor, shown this once."""
        key_id, actor, overlap = call.path["id"], Actor.of(call.identity), timedelta(hours=call.query.overlap_hours)
        with self._refusals.recorded(tx.tenant, actor, "api_key.rotated", ("api_key", key_id)):
            rotated = await api_keys.rotate(tx, self._keys, key_id, overlap, actor)
        call.made(rotated.api_key.id)
        return rotated

    async def show_again(self, _call: Call[Any, NoQuery], tx: Transaction, made_id: UUID) -> ApiKeyCreated:
        return await api_keys.show_again(tx, made_id)

    async def revoke(self, call: Call[None, NoQuery], tx: Transaction) -> None:
        """The end of a key."""
        key_id, actor = call.path["id"], Actor.of(call.identity)
        with self._refusals.recorded(tx.tenant, actor, "api_key.revoked", ("api_key", key_id)):
            await api_keys.revoke(tx, key_id, actor)


HANDLERS: Mapping[Endpoint, Handler] = {
    churches.GET_SETTINGS: Handler(get_settings),
    churches.PATCH_SETTINGS: Handler(patch_settings, rebuild=rebuild_settings),
}
