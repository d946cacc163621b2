"""API keys over real HTTP and queues: their successors, and when they were used."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

import msgspec
import pytest

from koinonia import clock
from koinonia.db.statistics import StatementLog
from koinonia.events.audit import ActionRecorded
from koinonia.events.delivery import EmailRequested
from koinonia.ids import new_id
from koinonia.security import api_keys
from koinonia.security.identity import HEADER, Role, verify_identity
from koinonia.security.keys import Keys
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import BusProbe
from koinonia_gateway.store import admins as admin_store
from koinonia_gateway.store import api_keys as key_store

from .conftest import Answer, Behind, Browser, NewBrowser, Service, StartGateway, still_waits
from .test_sessions import add_colleague

PATH = "/api/admin/api-keys"


async def make(owner: Browser, **more: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """A new key as it is shown, and the header to use it with."""
    status, answer = await owner.call("POST", PATH, {"name": "Site", "role": "admin", **more})
    assert status == 201, answer
    return answer["apiKey"], {"Authorization": f"Bearer {answer['key']}"}


async def rotate(owner: Browser, key_id: str, query: str = "") -> tuple[dict[str, Any], dict[str, str]]:
    """A key's successor as it is shown, and the header to use it with."""
    status, answer = await owner.call("POST", f"{PATH}/{key_id}/rotate{query}")
    assert status == 200, answer
    return answer["apiKey"], {"Authorization": f"Bearer {answer['key']}"}


async def opens(browser: Browser, headers: dict[str, str]) -> bool:
    status, _ = await browser.call("GET", "/api/auth/me", headers=headers)
    assert status in {200, 401}
    return status == 200


async def listed(owner: Browser) -> dict[str, dict[str, Any]]:
    _, answer = await owner.call("GET", PATH)
    return {each["id"]: each for each in answer["data"]}


async def test_a_rotated_key_opens_beside_its_successor_until_the_overlap_ends(
    owner: Browser, browsers: NewBrowser, bus: BusProbe
) -> None:
    old, old_headers = await make(owner)
    new, new_headers = await rotate(owner, old["id"], "?overlapHours=2")
    act = await bus.next(ActionRecorded, lambda act: act.action == "api_key.rotated")
    assert (str(act.data.target_id), act.data.details["successor"]) == (old["id"], new["id"])
    assert {name: new[name] for name in ("name", "role", "kind")} == {"name": "Site", "role": "admin", "kind": "live"}
    seen = await listed(owner)
    assert list(seen) == [new["id"], old["id"]]
    assert (seen[old["id"]]["successorId"], new["successorId"], new["expiresAt"]) == (new["id"], None, None)
    program = browsers()
    assert [await opens(program, headers) for headers in (old_headers, new_headers)] == [True, True]
    with clock.shifted(2 * 3600 - 60):
        assert await opens(program, old_headers)
    with clock.shifted(2 * 3600 + 1):
        assert [await opens(program, headers) for headers in (old_headers, new_headers)] == [False, True]


async def test_an_overlap_is_a_day_unless_said_and_a_week_at_most(owner: Browser) -> None:
    old, _ = await make(owner)
    for wrong in ("169", "-1", "x"):
        assert (await owner.call("POST", f"{PATH}/{old['id']}/rotate?overlapHours={wrong}"))[0] == 400
    new, _ = await rotate(owner, old["id"])
    ends = clock.now().fromisoformat((await listed(owner))[old["id"]]["expiresAt"])
    assert 24 * 3600 - 60 < (ends - clock.now()).total_seconds() <= 24 * 3600
    week, _ = await rotate(owner, new["id"], "?overlapHours=168")
    assert week["expiresAt"] is None


async def test_a_rotation_lengthens_no_keys_life(owner: Browser, browsers: NewBrowser) -> None:
    soon = clock.now().fromtimestamp(int(clock.now().timestamp()) + 60, clock.now().tzinfo).isoformat()
    old, old_headers = await make(owner, expiresAt=soon)
    new, new_headers = await rotate(owner, old["id"])
    seen = await listed(owner)
    assert seen[old["id"]]["expiresAt"] == new["expiresAt"] == old["expiresAt"]
    with clock.shifted(61):
        program = browsers()
        assert [await opens(program, headers) for headers in (old_headers, new_headers)] == [False, False]
        assert (await owner.call("POST", f"{PATH}/{new['id']}/rotate"))[0] == 409


async def test_of_two_rotations_at_once_one_makes_the_successor(start_gateway: StartGateway, owner: Browser) -> None:
    other = await start_gateway()
    key, _ = await make(owner)
    path = f"{PATH}/{key['id']}/rotate"
    answers = await asyncio.gather(
        *(owner.call("POST", path, url=url) for url in (owner.url, other.url, owner.url, other.url))
    )
    assert sorted(status for status, _ in answers) == [200, 409, 409, 409]
    assert len(await listed(owner)) == 2


async def test_a_rotation_sent_again_makes_no_second_successor(owner: Browser) -> None:
    key, _ = await make(owner)
    path, headers = f"{PATH}/{key['id']}/rotate", {"Idempotency-Key": "once"}
    _, first = await owner.call("POST", path, headers=headers)
    status, again = await owner.call("POST", path, headers=headers)
    assert (status, again) == (200, {"apiKey": first["apiKey"], "key": None})


async def test_a_revoked_key_ends_its_overlap_and_leaves_its_successor(
    start_gateway: StartGateway, owner: Browser, browsers: NewBrowser, bus: BusProbe
) -> None:
    other = await start_gateway()
    old, old_headers = await make(owner)
    _, new_headers = await rotate(owner, old["id"])
    program = browsers(other.url)
    assert await opens(program, old_headers)
    assert (await owner.call("DELETE", f"{PATH}/{old['id']}"))[0] == 204

    async def refused() -> bool:
        return not await opens(program, old_headers)

    await wait_until(refused, seconds=1.5)
    assert await opens(program, new_headers)
    revoked = await bus.next(ActionRecorded, lambda act: act.action == "api_key.revoked")
    assert str(revoked.data.target_id) == old["id"]


async def test_a_revoked_successor_leaves_the_key_before_it(owner: Browser, browsers: NewBrowser) -> None:
    old, old_headers = await make(owner)
    new, _ = await rotate(owner, old["id"])
    assert (await owner.call("DELETE", f"{PATH}/{new['id']}"))[0] == 204
    assert await opens(browsers(), old_headers)


async def test_a_use_is_noted_once_a_minute_and_only_with_the_right_secret(
    gateway: Service,
    owner: Browser,
    browsers: NewBrowser,
    count_statements: Callable[[], AbstractContextManager[StatementLog]],
) -> None:
    key, headers = await make(owner)
    program = browsers()
    public_id = key["prefix"].rsplit("_", 1)[1]
    start = f"koi_live_{public_id}_{'a' * 43}"
    wrong = {"Authorization": f"Bearer {start}{api_keys._checksum(start)}"}
    with count_statements() as counted:
        assert not await opens(program, wrong)
        assert (await listed(owner))[key["id"]]["lastUsedAt"] is None
        assert all(await asyncio.gather(*(opens(program, headers) for _ in range(10))))
        reads = counted.by_name["api_keys.find_by_public_id"]

        async def read_anew() -> bool:
            assert await opens(program, headers)
            return counted.by_name["api_keys.find_by_public_id"] > reads

        await wait_until(read_anew, what="the key's row read once more")
        assert all(await asyncio.gather(*(opens(program, headers) for _ in range(10))))
    assert counted.by_name["api_keys.touch"] == 1
    first = (await listed(owner))[key["id"]]["lastUsedAt"]
    with clock.shifted(61):
        assert await opens(program, headers)
        assert (await listed(owner))[key["id"]]["lastUsedAt"] > first


@pytest.mark.parametrize(
    "text", ["koi_live_" + "a" * 12 + "_" + "b" * 49, "koi_test_x", "koi_prod_x", "koi_", "x" * 5000]
)
async def test_rubbish_is_refused_without_asking_the_database(
    owner: Browser, text: str, count_statements: Callable[[], AbstractContextManager[StatementLog]]
) -> None:
    with count_statements() as counted:
        status, _ = await owner.call("GET", "/api/auth/me", headers={"Authorization": f"Bearer {text}"})
    assert status == 401
    assert counted.by_name["api_keys.find_by_public_id"] == 0


async def test_a_key_says_its_kind_and_keeps_it_when_it_is_rotated(
    owner: Browser, browsers: NewBrowser, bus: BusProbe
) -> None:
    for kind in ("live", "test"):
        key, headers = await make(owner, kind=kind)
        assert (key["kind"], key["prefix"][:9], headers["Authorization"][7:16]) == (
            kind,
            f"koi_{kind}_",
            f"koi_{kind}_",
        )
        act = await bus.next(ActionRecorded, lambda act: act.action == "api_key.created")
        assert act.data.details == {"role": "admin", "kind": kind}
        _, me = await browsers().call("GET", "/api/auth/me", headers=headers)
        assert (me["principalId"], me["test"]) == (key["id"], kind == "test")
        successor, headers = await rotate(owner, key["id"])
        assert (successor["kind"], headers["Authorization"][7:16]) == (kind, f"koi_{kind}_")
    assert (await make(owner))[0]["kind"] == "live"
    assert (await owner.call("POST", PATH, {"name": "x", "role": "viewer", "kind": "prod"}))[0] == 400
    assert (await owner.call("GET", "/api/auth/me"))[1]["test"] is False


async def test_a_test_key_opens_nothing_as_a_live_one(owner: Browser, browsers: NewBrowser) -> None:
    _, headers = await make(owner, kind="test")
    text = headers["Authorization"].removeprefix("Bearer ").replace("koi_test_", "koi_live_")
    start = text[: -api_keys._CHECKSUM_LENGTH]
    assert not await opens(browsers(), {"Authorization": f"Bearer {start}{api_keys._checksum(start)}"})


async def test_the_mark_goes_inward_with_what_a_test_key_asks(
    owner: Browser, browsers: NewBrowser, behind: Behind, keys: Keys
) -> None:
    program = browsers()
    for kind in ("live", "test"):
        _, headers = await make(owner, kind=kind)
        behind.seen.clear()
        body = {"content": "Hello", "targetType": "all"}
        status, _ = await program.call("POST", "/api/messages/send", body, csrf=False, headers=headers)
        assert status == 200
        (request,) = behind.seen
        identity = verify_identity(keys, request.headers[HEADER], method="POST", path="/api/messages/send")
        assert (identity.test, identity.principal_kind) == (kind == "test", "api_key")


async def test_a_test_key_changes_nothing_but_tests(owner: Browser, browsers: NewBrowser, behind: Behind) -> None:
    key, headers = await make(owner, kind="test")
    program = browsers()
    assert (await program.call("GET", PATH, headers=headers))[0] == 200
    assert (await program.call("GET", "/api/members", headers=headers))[0] == 200
    behind.seen.clear()
    settings = f"/api/churches/{owner.church_id}/settings"
    for method, path, body in (
        ("POST", PATH, {"name": "Mine", "role": "admin"}),
        ("POST", f"{PATH}/{key['id']}/rotate", None),
        ("DELETE", f"{PATH}/{key['id']}", None),
        ("PATCH", settings, {"name": "Mine"}),
        ("POST", "/api/members", {"firstName": "Eve", "phone": "+13125550111"}),
        ("POST", "/api/messages/stop", None),
    ):
        status, answer = await program.call(method, path, body, csrf=False, headers=headers)
        assert (status, answer["error"]["code"]) == (403, "FORBIDDEN"), path
    assert behind.seen == []
    assert list(await listed(owner)) == [key["id"]]


async def test_owners_hear_once_an_hour_of_the_keys_that_each_makes(
    owner: Browser, browsers: NewBrowser, bus: BusProbe, keys: Keys, gateway: Service
) -> None:
    church_id, heard = UUID(owner.church_id), set[UUID]()

    async def told() -> list[tuple[str, str, str, str]]:
        """Address, first name, maker and key of the next two e-mails: a repeat is the same one."""
        emails: dict[UUID, EmailRequested] = {}

        async def both() -> bool:
            emails.update({each.id: each.data for each in await bus.all(EmailRequested) if each.id not in heard})
            return len(emails) == 2

        await wait_until(both)
        heard.update(emails)
        assert {email.template for email in emails.values()} == {"api-key-made"}
        said = []
        for email in emails.values():
            fields = msgspec.json.decode(keys.decrypt(email.fields_ciphertext, church_id, "fields"))
            assert fields["church"] == "Grace Chapel"
            to = keys.decrypt(email.email_ciphertext, church_id, "email")
            said.append((to, fields["name"], fields["maker"], fields["key"]))
        return sorted(said)

    def to_both(maker: str, key: str) -> list[tuple[str, str, str, str]]:
        return [(f"{name.lower()}@grace.example", name, maker, key) for name in ("Naomi", "Ruth")]

    async with gateway.parts.database.tenant(church_id) as tx:
        roles: tuple[tuple[str, Role], ...] = (("Naomi", "owner"), ("Boaz", "admin"))
        for name, role in roles:
            email = f"{name}@grace.example".lower()
            await admin_store.insert(
                tx,
                new_id(),
                first_name=name,
                last_name="Miller",
                email_ciphertext=keys.encrypt(email, tx.tenant, "email"),
                login_index=keys.login_index(email),
                password_hash="-",
                role=role,
                at=clock.now(),
            )
    with clock.shifted(3600 - clock.now().timestamp() % 3600):  # an hour's beginning
        assert (await owner.call("POST", "/api/auth/refresh"))[0] == 200
        key, headers = await make(owner)
        assert await told() == to_both("Ruth Miller", "Site")
        other, _ = await make(owner, name="Website")
        await rotate(owner, other["id"])
        for _ in range(3):  # each time as another key
            path = f"{PATH}/{key['id']}/rotate"
            status, answer = await browsers().call("POST", path, csrf=False, headers=headers)
            assert status == 200
            key, headers = answer["apiKey"], {"Authorization": f"Bearer {answer['key']}"}
        assert await told() == to_both("A program with the API key “Site”", "Site")
        with clock.shifted(3600):
            assert (await owner.call("POST", "/api/auth/refresh"))[0] == 200
            await rotate(owner, key["id"])
            assert await told() == to_both("Ruth Miller", "Site")
            assert (await owner.call("DELETE", f"{PATH}/{key['id']}"))[0] == 204
            await bus.next(ActionRecorded, lambda act: act.action == "api_key.revoked")
            assert {event.id for event in await bus.all(EmailRequested)} <= heard


async def test_a_key_makes_none_and_rotates_itself_alone(owner: Browser, browsers: NewBrowser) -> None:
    itself, headers = await make(owner)
    other, _ = await make(owner)
    program = browsers()

    async def ask(method: str, path: str, body: Any = None) -> Answer:
        return await program.call(method, path, body, csrf=False, headers=headers)

    for path, body in ((PATH, {"name": "Mine", "role": "viewer"}), (f"{PATH}/{other['id']}/rotate", None)):
        status, answer = await ask("POST", path, body)
        assert (status, answer["error"]["code"]) == (403, "FORBIDDEN")
    assert list(await listed(owner)) == [other["id"], itself["id"]]
    assert (await ask("POST", f"{PATH}/{new_id()}/rotate"))[0] == 404
    status, answer = await ask("POST", f"{PATH}/{itself['id']}/rotate")
    assert (status, (await listed(owner))[itself["id"]]["successorId"]) == (200, answer["apiKey"]["id"])


async def test_a_key_tells_by_whom_it_was_made_or_rotated_also_once_it_has_rotated_itself(
    owner: Browser, browsers: NewBrowser, gateway: Service, keys: Keys
) -> None:
    naomi = str(await add_colleague(gateway, keys, owner.church_id, "naomi@grace.example"))
    assert (await owner.call("PATCH", f"/api/admin/users/{naomi}", {"role": "admin"}))[0] == 200
    colleague = browsers()
    assert (await colleague.log_in("naomi@grace.example"))[0] == 200
    key, _ = await make(owner)
    assert key["createdBy"] == owner.admin_id
    new, headers = await rotate(colleague, key["id"])
    assert new["createdBy"] == naomi
    status, answer = await browsers().call("POST", f"{PATH}/{new['id']}/rotate", csrf=False, headers=headers)
    assert (status, answer["apiKey"]["createdBy"]) == (200, naomi)
    assert [each["createdBy"] for each in (await listed(owner)).values()] == [naomi, naomi, owner.admin_id]
    assert (await owner.call("DELETE", f"/api/admin/users/{naomi}"))[0] == 204
    assert (await listed(owner))[new["id"]]["createdBy"] == naomi


@pytest.mark.parametrize(("loses", "expected"), [("role", 403), ("login", 401)])
@pytest.mark.parametrize("act", ["create", "rotate", "revoke"])
async def test_an_admin_who_loses_the_right_while_a_request_is_under_way_changes_no_key(
    gateway: Service, owner: Browser, act: str, loses: str, expected: int
) -> None:
    key, _ = await make(owner)
    church_id, admin_id = UUID(owner.church_id), UUID(owner.admin_id)
    paths = {"create": PATH, "rotate": f"{PATH}/{key['id']}/rotate", "revoke": f"{PATH}/{key['id']}"}
    method, body = "DELETE" if act == "revoke" else "POST", {"name": "Mine", "role": "admin"}
    async with gateway.parts.database.tenant(church_id) as tx:
        await admin_store.lock_church(tx)
        asked = asyncio.create_task(owner.call(method, paths[act], body if act == "create" else None))
        await still_waits(tx, asked)
        if loses == "role":
            await admin_store.update_role(tx, admin_id, "sender")
        else:
            await admin_store.remove(tx, admin_id)
    assert (await asked)[0] == expected
    async with gateway.parts.database.tenant(church_id) as tx:
        (row,) = await key_store.list_page(tx, None, 10)
    assert (str(row["id"]), row["successor_id"]) == (key["id"], None)


async def test_a_key_that_is_revoked_while_its_request_is_under_way_ends_no_other(
    gateway: Service, owner: Browser, browsers: NewBrowser
) -> None:
    key, headers = await make(owner)
    other, _ = await make(owner)
    async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
        await admin_store.lock_church(tx)
        path = f"{PATH}/{other['id']}"
        asked = asyncio.create_task(browsers().call("DELETE", path, csrf=False, headers=headers))
        await still_waits(tx, asked)
        await key_store.revoke(tx, UUID(key["id"]), clock.now())
    assert (await asked)[0] == 401
    assert list(await listed(owner)) == [other["id"]]
