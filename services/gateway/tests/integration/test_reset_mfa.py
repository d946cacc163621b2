"""`koinonia admin reset-mfa`: somebody without app and codes gets in again, and it is known who let them."""

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
    """The command's exit status, what it says, and what it complains of."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KOINONIA_")}
    asked = await asyncio.create_subprocess_exec(
        *(KOINONIA, "admin", "reset-mfa", email),
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
