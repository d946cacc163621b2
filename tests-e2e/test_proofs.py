"""Routes that want a password, an app's or a text's code or a token out of an e-mail: reached with success, each once.

Before that each of their fields is exchanged for wrong values while all the rest is right, which spends nothing.
"""

import re
import secrets
import time
from collections.abc import Mapping
from email import message_from_bytes
from email.policy import default
from typing import Any
from urllib.parse import unquote

import pyotp
import pytest

from koinonia.testing.fixtures import wait_until

from .acts import until_audited
from .caller import Caller
from .church import PASSWORD, Church, people
from .page import Route, all_routes
from .platform import Platform
from .test_fuzzing import NEVER_DONE, Good, fault_of, unlike_the_page
from .verdict import failed_requests

ANOTHER = "another long sentence that nobody guesses"
STEP_SECONDS = 30


class Whole(Good):
    """A request with this body, each time."""

    def __init__(self, route: Route, church: Church, body: dict[str, Any]) -> None:
        super().__init__(route, church, {})
        self._whole = body

    def body(self) -> dict[str, Any]:
        return dict(self._whole)


class Door:
    """Takes each route once with success, and notes what was answered otherwise than the page says."""

    def __init__(self, church: Church, routes: Mapping[str, Route]) -> None:
        self._church = church
        self._routes = routes
        self.taken: set[str] = set()
        self.faults: list[str] = []

    async def take(self, route: str, caller: Caller, body: dict[str, Any]) -> Any:
        """Ask with each field made wrong, and then as it should be; what that is answered."""
        good = Whole(self._routes[route], self._church, body)
        for case in [case for case in good.cases() if not case.is_right]:
            fault = fault_of(good.route, case, await good.send(caller, case))
            self.faults += [f"{route}, {case}: {fault}"] if fault else []
        answer = await good.send(caller)
        assert answer.status < 300, (route, answer, self.faults)
        if fault := unlike_the_page(good.route, answer):
            self.faults.append(f"{route}, as it should be: {fault}")
        self.taken.add(route)
        await caller.take_csrf()  # of the session that it left
        return answer.json() if answer.body else None


@pytest.mark.native("containers keep e-mails to themselves")
@pytest.mark.asvs("v5.0.0-2.2.1", "v5.0.0-2.2.2")
async def test_every_route_that_wants_a_proof_is_reached_with_success(church: Church) -> None:
    platform = church.platform
    door = Door(church, {str(route): route for route in await all_routes(platform.url)})
    invited = f"invited.{secrets.token_hex(6)}@church.example"
    async with Caller(church) as owner, Caller(church) as other:
        app = pyotp.TOTP((await door.take("POST /api/admin/mfa/enable", owner, {"password": PASSWORD}))["secret"])
        step = int(time.time()) // STEP_SECONDS
        codes = await door.take("POST /api/admin/mfa/confirm", owner, {"code": app.at(step * STEP_SECONDS)})
        login = await other.send_json("POST", "/api/auth/login", {"email": church.email, "password": PASSWORD})
        later = max(step + 1, int(time.time()) // STEP_SECONDS)  # no code is good twice
        proof = {"mfaToken": login.json()["mfaToken"], "code": app.at(later * STEP_SECONDS)}
        await door.take("POST /api/admin/mfa/verify", other, proof)
        recovery = {"code": codes["recoveryCodes"][0]}
        codes = await door.take("POST /api/admin/mfa/recovery-codes", owner, recovery)
        both = {"password": PASSWORD, "code": codes["recoveryCodes"][0]}
        await door.take("POST /api/admin/mfa/disable", owner, both)

        phone = people(1)[0].phone
        assert (await owner.send_json("POST", "/api/auth/phone", {"phone": phone})).status == 202
        await door.take("POST /api/auth/phone/confirm", owner, {"code": await church.code(phone)})
        draft = {"content": "Hi {{firstName}}", "fields": {"firstName": "Ruth"}}
        assert (await owner.send_json("POST", "/api/messages/send-to-me", draft)).status == 202
        await wait_until(lambda: has_got(church, phone, "Hi Ruth"), what="the draft")

        change = {"currentPassword": PASSWORD, "newPassword": ANOTHER}
        await door.take("POST /api/auth/password/change", owner, change)
        await door.take("DELETE /api/auth/sessions", owner, {"password": ANOTHER})

        who = {"firstName": "Boaz", "lastName": "Miller"}
        answer = await owner.send_json("POST", "/api/admin/users", {**who, "email": invited, "role": "viewer"})
        assert answer.status == 201, answer
        accept = {**who, "token": await token(platform, invited, "invitation"), "password": PASSWORD}
        await door.take("POST /api/auth/invitations/accept", other, accept)
        assert (await owner.send_json("POST", "/api/auth/password/forgot", {"email": church.email})).status < 300
        reset = {"token": await token(platform, church.email, "reset-password"), "password": PASSWORD}
        await door.take("POST /api/auth/password/reset", other, reset)
        await owner.log_in()
    assert door.faults == []
    assert door.taken == NEVER_DONE.keys()
    await until_audited(church, door.taken)
    assert failed_requests(platform) == []


async def token(platform: Platform, email: str, page: str) -> str:
    """What the link to a page has, in the e-mail to somebody; waited for."""
    link = re.compile(rf"/{page}#token=(\S+)")

    def found() -> str | None:
        for file in (platform.state.path / "mail").glob("*.eml"):
            mail = message_from_bytes(file.read_bytes(), policy=default)
            text = mail.get_body(("plain",))
            if mail["To"] == email and text is not None and (told := link.search(text.get_content())):
                return unquote(told[1])
        return None

    told = await wait_until(found, seconds=60, what=f"an e-mail with a link to {page}")
    assert isinstance(told, str)
    return told


async def has_got(church: Church, phone: str, begin: str) -> bool:
    """Whether a text that begins so went to a phone."""
    return any(text.recipient == phone and (text.text or "").startswith(begin) for text in await church.texts())
