"""What each act at the gateway is called in the audit log, by its route."""

from collections.abc import Collection

import asyncpg

from koinonia.testing.fixtures import wait_until

from .church import Church

ACTS = {
    "POST /api/auth/register": "church.registered",
    "POST /api/auth/login": "login.succeeded",
    "POST /api/auth/logout": "logout",
    "POST /api/auth/invitations/accept": "admin.joined",
    "POST /api/auth/password/forgot": "password.reset_requested",
    "POST /api/auth/password/reset": "password.reset",
    "POST /api/auth/password/change": "password.changed",
    "DELETE /api/auth/sessions/{id}": "session.ended",
    "DELETE /api/auth/sessions": "sessions.ended",
    "POST /api/auth/phone": "own_phone.code_asked",
    "POST /api/auth/phone/confirm": "own_phone.confirmed",
    "DELETE /api/auth/phone": "own_phone.removed",
    "POST /api/admin/api-keys": "api_key.created",
    "POST /api/admin/api-keys/{id}/rotate": "api_key.rotated",
    "DELETE /api/admin/api-keys/{id}": "api_key.revoked",
    "POST /api/admin/users": "admin.invited",
    "PATCH /api/admin/users/{id}": "admin.role_changed",
    "DELETE /api/admin/users/{id}": "admin.removed",
    "POST /api/admin/mfa/enable": "mfa.begun",
    "POST /api/admin/mfa/confirm": "mfa.enabled",
    "POST /api/admin/mfa/verify": "login.succeeded",
    "POST /api/admin/mfa/recovery-codes": "mfa.recovery_codes_renewed",
    "POST /api/admin/mfa/disable": "mfa.disabled",
    "PATCH /api/churches/{id}/settings": "church.changed",
}
NO_ACTS = {
    "POST /api/auth/refresh": "a session goes on, four times an hour; a token shown again is session.replayed",
    "POST /api/webhooks/telnyx/status": "the carrier's word; what it changes is in the copy's trail",
    "POST /api/webhooks/telnyx/mms": "the carrier's word; what it changes is in the consents and conversations",
    "POST /api/webhooks/stripe": "Stripe's word; billing notes what it changes",
}

_SUCCEEDED = """
    SELECT DISTINCT action
    FROM compliance.audit_log
    WHERE church_id = $1 AND service = 'gateway' AND outcome = 'success'
        AND (actor_id IS NOT NULL OR actor_kind = 'anonymous') AND address IS NOT NULL AND request_id IS NOT NULL
"""


async def until_audited(church: Church, routes: Collection[str]) -> None:
    """Wait until the audit log has an act of each of these routes, with who did it, from where, in which request."""
    wanted = {ACTS[route] for route in routes}
    database = await asyncpg.connect(church.platform.process("postgres").url)

    async def missing() -> set[str]:
        return wanted - {row["action"] for row in await database.fetch(_SUCCEEDED, church.id)}

    async def are_audited() -> bool:
        return not await missing()

    try:
        await wait_until(are_audited, seconds=60, what="what was done in the audit log")
    except AssertionError as error:
        raise AssertionError(f"{error}; missing are {await missing()}") from None
    finally:
        await database.close()
