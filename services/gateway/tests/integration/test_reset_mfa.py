"""`koinonia admin`: somebody without app and codes gets in again, or is out at once, and it is known who did it."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from koinonia.events.audit import ActionRecorded
from koinonia.events.delivery import EmailRequested
from koinonia.settings import variable
from koinonia.testing.databases import DatabaseUrls
from koinonia.testing.fixtures import wait_until
from koinonia.testing.servers import TestServers
from koinonia.testing.services import KEY_SETTINGS, BusProbe

from .conftest import Browser, NewBrowser, Service
from .test_mfa import is_in, password_step, turn_on, verify

KOINONIA = str(Path(sys.executable).with_name("koinonia"))


async def reset(url: str, folder: Path, email: str, **settings: str) -> tuple[int, str, str]:
    """The end of `reset-mfa`."""
    return await ask(url, folder, "reset-mfa", email, **settings)


async def ask(url: str, folder: Path, *arguments: str, **settings: str) -> tuple[int, str, str]:
    """The command's exit status, what it says, and what it complains of."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KOINONIA_")}
    asked = await asyncio.create_subprocess_exec(
        *(KOINONIA, "admin", *arguments),
        env={**kept, "KOINONIA_DATABASE_URL": url, **settings},
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await asked.communicate()
    return asked.returncode or 0, said.decode(), complained.decode()


@pytest.fixture
async def admin_url(gateway: Service, database_urls: DatabaseUrls, servers: TestServers) -> str:
    """The gateway's database, as its administrator reaches it."""
    return servers.database_url((await database_urls("gateway")).rpartition("/")[2].partition("?")[0])


KEYS = {variable(name): value for name, value in KEY_SETTINGS.items()}


@pytest.mark.asvs("v5.0.0-6.5.6", "v5.0.0-7.4.3")
async def test_an_operator_turns_it_off_and_all_sessions_end(
    admin_url: str, owner: Browser, browsers: NewBrowser, bus: BusProbe, tmp_path: Path
) -> None:
    app, _ = await turn_on(owner)
    waiting = browsers()
    token = await password_step(waiting)
    code, said, complained = await reset(admin_url, tmp_path, "Ruth@Grace.example", **KEYS)
    assert (code, complained) == (0, "")
    assert (owner.admin_id in said, "ruth" in said.lower()) == (True, False)

    async def is_out() -> bool:
        return not await is_in(owner)

    await wait_until(is_out, seconds=1.5)
    assert (await verify(waiting, token, code=app.code()))[0] == 401
    assert (await browsers().log_in())[1]["mfaRequired"] is False
    act = await bus.next(ActionRecorded, lambda act: act.action == "mfa.reset")
    assert (act.data.actor_kind, act.data.outcome, str(act.data.target_id)) == ("operator", "success", owner.admin_id)
    assert (str(act.church_id), list(act.data.details)) == (owner.church_id, ["operator"])
    await bus.next(EmailRequested, lambda wish: wish.template == "mfa-off")


async def test_what_cannot_be_reset_is_one_line(admin_url: str, owner: Browser, tmp_path: Path) -> None:
    for email, settings, words in (
        ("nobody@grace.example", KEYS, "no admin logs in with this e-mail address"),
        ("ruth@grace.example", KEYS, f"the admin {owner.admin_id} has no second factor"),
        ("ruth@grace.example", {}, "KOINONIA_ENCRYPTION_KEYS is not set"),
    ):
        code, said, complained = await reset(admin_url, tmp_path, email, **settings)
        assert (code, said, complained.count("\n")) == (2, "", 1)
        assert words in complained


@pytest.mark.asvs("v5.0.0-7.4.5")
async def test_an_operator_ends_all_sessions_of_somebody_and_of_nobody_else(
    admin_url: str, owner: Browser, browsers: NewBrowser, bus: BusProbe, tmp_path: Path
) -> None:
    laptop, other = browsers(), browsers()
    assert (await laptop.log_in())[0] == 200
    assert (await other.register("boaz@hope.example", "Hope Chapel"))[0] == 201
    code, said, complained = await ask(admin_url, tmp_path, "end-sessions", "Ruth@Grace.example", **KEYS)
    assert code == 0, complained
    assert said == f"sessions of admin {owner.admin_id} of church {owner.church_id} that were ended: 2\n"

    async def are_out() -> bool:
        return not (await is_in(owner) or await is_in(laptop))

    await wait_until(are_out, seconds=1.5)
    assert (await owner.call("POST", "/api/auth/refresh"))[0] == 401
    assert await is_in(other)
    assert (await laptop.log_in())[0] == 200
    act = await bus.next(ActionRecorded, lambda act: act.action == "sessions.ended")
    assert (act.data.actor_kind, str(act.data.target_id), str(act.church_id)) == (
        "operator",
        owner.admin_id,
        owner.church_id,
    )
    assert {**act.data.details, "operator": ""} == {"sessions": "2", "operator": ""}
    code, said, complained = await ask(admin_url, tmp_path, "end-sessions", "nobody@grace.example", **KEYS)
    assert (code, said, complained) == (2, "", "koinonia: no admin logs in with this e-mail address\n")
