"""Whatever is done at the gateway is in the audit log, with who did it and from where; see test_proofs.py, too."""

import secrets
from typing import Any

from koinonia.api import ENDPOINTS

from .acts import ACTS, NO_ACTS, until_audited
from .caller import Caller
from .church import PASSWORD, Church, people
from .test_fuzzing import NEVER_DONE


def test_each_route_that_changes_something_at_the_gateway_has_an_act() -> None:
    changing = {f"{each.method} {each.path}" for each in ENDPOINTS if each.owner == "gateway" and each.method != "GET"}
    assert changing == ACTS.keys() | NO_ACTS.keys()


async def test_what_is_done_without_a_proof_is_audited(church: Church) -> None:
    done = {"POST /api/auth/register"}

    async def do(caller: Caller, route: str, body: object = None, **ids: object) -> dict[str, Any]:
        method, path = route.format_map(ids).split(" ")
        answer = await (caller.send(method, path) if body is None else caller.send_json(method, path, body))
        assert answer.status < 300, (route, answer)
        done.add(route)
        return dict(answer.json()) if answer.body else {}

    async with Caller(church) as owner, Caller(church) as other:
        newest = (await other.send("GET", "/api/auth/sessions?limit=1")).json()["data"][0]["id"]
        await do(owner, "DELETE /api/auth/sessions/{id}", {"password": PASSWORD}, id=newest)
        invitation = {"email": f"boaz.{secrets.token_hex(6)}@church.example", "firstName": "Boaz", "lastName": "Miller"}
        invited = (await do(owner, "POST /api/admin/users", {**invitation, "role": "viewer"}))["id"]
        await do(owner, "PATCH /api/admin/users/{id}", {"role": "sender"}, id=invited)
        await do(owner, "DELETE /api/admin/users/{id}", id=invited)
        key = (await do(owner, "POST /api/admin/api-keys", {"name": "Program", "role": "viewer"}))["apiKey"]["id"]
        await do(owner, "POST /api/admin/api-keys/{id}/rotate", {}, id=key)
        await do(owner, "DELETE /api/admin/api-keys/{id}", id=key)
        await do(owner, "PATCH /api/churches/{id}/settings", {"undoSeconds": 30}, id=church.id)
        phone = people(1)[0].phone
        await do(owner, "POST /api/auth/phone", {"phone": phone})
        code = await church.code(phone)
        assert (await owner.send_json("POST", "/api/auth/phone/confirm", {"code": code})).status < 300
        await do(owner, "DELETE /api/auth/phone")
        await do(owner, "POST /api/auth/password/forgot", {"email": church.email})
        await do(other, "POST /api/auth/login", {"email": church.email, "password": PASSWORD})
        await do(owner, "POST /api/auth/logout")
    assert done | NEVER_DONE.keys() == ACTS.keys()
    await until_audited(church, done)
