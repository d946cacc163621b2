"""Templates: texts that are written once and sent again."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg
from msgspec import UNSET

from koinonia import clock, sms
from koinonia.api.templates import Template, TemplatePatch, TemplateRequest
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import Conflict, NotFound
from koinonia.ids import new_id
from koinonia.security import Identity
from koinonia_messaging.domain.messages import BUILT_IN_FIELDS
from koinonia_messaging.store import templates as template_store


async def fetch(tx: Transaction, template_id: UUID) -> Template:
    """One template.

    Raises:
        NotFound: the church has no such template.
    """
    row = await template_store.find(tx, template_id)
    if row is None:
        raise NotFound
    (template,) = await _shown(tx, [row])
    return template


async def list_page(tx: Transaction, before: UUID | None, limit: int) -> list[Template]:
    """Templates, newest first, from after ``before`` on."""
    return await _shown(tx, await template_store.list_page(tx, before, limit))


async def create(tx: Transaction, actor: Identity, request: TemplateRequest) -> Template:
    """Make a template.

    Raises:
        Conflict: its name is taken.
    """
    template_id, name = new_id(), request.name.strip()
    if not await template_store.insert(tx, template_id, name=name, content=request.content, at=clock.now()):
        raise Conflict("A template has this name.")
    await outbox.add(tx, acted(actor, "template.created", "template", template_id))
    return await fetch(tx, template_id)


async def change(tx: Transaction, actor: Identity, template_id: UUID, patch: TemplatePatch) -> Template:
    """Change a template; a name that is taken ends in the door's 409.

    Raises:
        NotFound: the church has no such template.
    """
    if not await template_store.update(
        tx,
        template_id,
        name=None if patch.name is UNSET else patch.name.strip(),
        content=None if patch.content is UNSET else patch.content,
        at=clock.now(),
    ):
        raise NotFound
    template = await fetch(tx, template_id)
    await outbox.add(tx, acted(actor, "template.changed", "template", template_id, version=str(template.version)))
    return template


async def delete(tx: Transaction, actor: Identity, template_id: UUID) -> None:
    """Delete a template; what was made of it stays.

    Raises:
        NotFound: the church has no such template.
    """
    if not await template_store.delete(tx, template_id, clock.now()):
        raise NotFound
    await outbox.add(tx, acted(actor, "template.deleted", "template", template_id))


async def _shown(tx: Transaction, rows: Sequence[asyncpg.Record]) -> list[Template]:
    asked = {name for row in rows for name in sms.unknown_fields(row["content"], BUILT_IN_FIELDS)}
    known = {*BUILT_IN_FIELDS, *await template_store.find_known_fields(tx, sorted(asked))}
    return [
        Template(
            id=row["id"],
            name=row["name"],
            content=row["content"],
            version=row["version"],
            fields=list(sms.field_names(row["content"])),
            unknown_fields=list(sms.unknown_fields(row["content"], known)),
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )
        for row in rows
    ]
