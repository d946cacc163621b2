"""`koinonia church suspend` and `resume`: nothing opens a suspended church, and its texts are taken all the same."""

import asyncio
import os
import sys
from pathlib import Path
from uuid import UUID

import pytest

from koinonia.carrier.webhooks import Signer
from koinonia.events.audit import ActionRecorded
from koinonia.events.carrier import MessageReceived
from koinonia.events.gateway import ChurchChanged
from koinonia.ids import new_id
from koinonia.testing.databases import DatabaseUrls
from koinonia.testing.fixtures import wait_until
from koinonia.testing.servers import TestServers
from koinonia.testing.services import BusProbe

from .conftest import Behind, Browser, NewBrowser, Service, StartGateway
from .test_churches import key_of
from .test_webhooks import MMS, Carrier, give_number, text

KOINONIA = str(Path(sys.executable).with_name("koinonia"))


class Operator:
    """Runs the command on the gateway's database, as its administrator reaches it."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder

    async def __call__(self, act: str, *arguments: object) -> tuple[int, str]:
        """Its exit status, and what it says."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KOINONIA_")}
        asked = await asyncio.create_subprocess_exec(
            *(KOINONIA, "church", act, *map(str, arguments)),
            env={**kept, "KOINONIA_DATABASE_URL": self._url},
            cwd=self._folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asked.communicate()
        return asked.returncode or 0, said.decode().strip()


@pytest.fixture
async def operator(gateway: Service, database_urls: DatabaseUrls, servers: TestServers, tmp_path: Path) -> Operator:
    name = (await database_urls("gateway")).rpartition("/")[2].partition("?")[0]
    return Operator(servers.database_url(name), tmp_path)


async def test_a_suspended_churchs_sessions_and_keys_get_a_clear_403_everywhere_within_a_second(
    start_gateway: StartGateway, owner: Browser, browsers: NewBrowser, operator: Operator, behind: Behind
) -> None:
    other = await start_gateway()
    _, headers = await key_of(owner, "admin")
    program, stranger = browsers(other.url), browsers()
    await stranger.register(email="eve@other.example")

    async def statuses() -> list[tuple[int, str]]:
        found = []
        for answer in (
            await owner.call("GET", "/api/groups"),
            await owner.call("GET", "/api/auth/me"),
            await program.call("GET", "/api/groups", headers=headers),
            await program.call("POST", "/api/messages/send", {"content": "Hi"}, headers=headers, csrf=False),
        ):
            status, body = answer
            found.append((status, body["error"]["message"] if status == 403 else ""))
        return found

    assert {status for status, _ in await statuses()} == {200}
    assert await operator("suspend", owner.church_id) == (0, f"church {owner.church_id} is suspended")

    async def are_out() -> bool:
        return {status for status, _ in await statuses()} == {403}

    await wait_until(are_out, seconds=1.3)
    behind.seen.clear()
    assert all("suspended" in message for _, message in await statuses())
    assert behind.seen == []
    newcomer = browsers()
    assert (await newcomer.log_in())[0] == 200
    status, answer = await newcomer.call("GET", "/api/auth/me")
    assert (status, answer["error"]["code"]) == (403, "FORBIDDEN")
    assert (await newcomer.call("POST", "/api/auth/logout"))[0] == 204
    assert (await stranger.call("GET", "/api/groups"))[0] == 200

    assert await operator("resume", owner.church_id) == (0, f"church {owner.church_id} is active")

    async def are_in() -> bool:
        return {status for status, _ in await statuses()} == {200}

    await wait_until(are_in, seconds=1.3)


async def test_it_is_told_and_recorded_once(bus: BusProbe, owner: Browser, operator: Operator) -> None:
    await bus.next(ChurchChanged)
    for act, status, version in (("suspend", "suspended", 2), ("resume", "active", 3)):
        assert (await operator(act, owner.church_id))[0] == 0
        assert await operator(act, owner.church_id) == (0, f"church {owner.church_id} is {status} already")
        changed = await bus.next(ChurchChanged)
        assert (str(changed.church_id), changed.data.status, changed.data.version) == (
            owner.church_id,
            status,
            version,
        )
        recorded = (await bus.next(ActionRecorded, lambda done, act=act: done.action.startswith(f"church.{act}"))).data  # type: ignore[misc]
        assert (recorded.actor_kind, recorded.outcome, str(recorded.target_id)) == (
            "operator",
            "success",
            owner.church_id,
        )
    assert await bus.all(ChurchChanged) == []


@pytest.mark.parametrize("wrong", [new_id(), "grace"])
async def test_a_church_that_is_not_there_is_one_clear_line(operator: Operator, wrong: object) -> None:
    status, said = await operator("suspend", wrong)
    assert (status, len(said.splitlines())) == (2, 1)
    assert str(wrong) in said


async def test_a_suspended_churchs_inbound_texts_and_stops_are_taken(
    gateway: Service, owner: Browser, operator: Operator, bus: BusProbe, carrier: Signer
) -> None:
    await give_number(gateway, bus, UUID(owner.church_id))
    assert (await operator("suspend", owner.church_id))[0] == 0
    assert await Carrier(owner, carrier).send(text("STOP"), MMS) == 200
    assert str((await bus.next(MessageReceived)).church_id) == owner.church_id
