"""Settings, readiness and API keys over real HTTP and queues."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from uuid import UUID

import pytest

from koinonia import clock
from koinonia.db.statistics import StatementLog
from koinonia.events.audit import ActionRecorded
from koinonia.events.billing import SubscriptionChanged
from koinonia.events.delivery import NumberChanged
from koinonia.events.gateway import ChurchChanged
from koinonia.events.messaging import BranchChanged
from koinonia.ids import new_id
from koinonia.security import api_keys
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import BusProbe

from .conftest import Behind, Browser, NewBrowser, Service, StartGateway


def branch(branch_id: UUID, version: int = 1, *, deleted: bool = False) -> BranchChanged:
    return BranchChanged(branch_id=branch_id, version=version, name="Main", is_default=True, deleted=deleted)


def number(number_id: UUID, version: int = 1, status: str = "active") -> NumberChanged:
    return NumberChanged(
        number_id=number_id,
        version=version,
        phone="+12055550100",
        kind="long_code",
        status=status,  # type: ignore[arg-type]
        is_default=True,
    )


def subscription(version: int = 1) -> SubscriptionChanged:
    now = clock.now()
    return SubscriptionChanged(
        version=version, plan="trial", status="trialing", period_start=now, period_end=now, included_segments=5
    )


async def ready(browser: Browser) -> bool:
    status, answer = await browser.call("GET", f"/api/churches/{browser.church_id}/settings")
    assert status == 200
    return bool(answer["ready"])


async def test_a_church_is_ready_once_branch_number_and_subscription_were_seen(owner: Browser, bus: BusProbe) -> None:
    church_id = UUID(owner.church_id)
    branch_id, number_id = new_id(), new_id()
    await bus.publish(subscription(), church_id)
    await bus.publish(number(number_id, 2), church_id)
    await bus.publish(number(number_id, 1, "pending"), church_id)
    assert not await ready(owner)
    made = await bus.publish(branch(branch_id), church_id)
    await wait_until(lambda: ready(owner))
    await bus.publish(branch(branch_id, 2, deleted=True), church_id)
    await wait_until(lambda: not_ready(owner))
    await bus.publish_envelope(made)
    await bus.publish(branch(branch_id), church_id)
    await bus.publish(branch(new_id()), church_id)
    await wait_until(lambda: ready(owner))


async def not_ready(browser: Browser) -> bool:
    return not await ready(browser)


async def test_anothers_events_make_nobody_ready(owner: Browser, bus: BusProbe, church_id: UUID) -> None:
    for event in (subscription(), number(new_id()), branch(new_id())):
        await bus.publish(event, church_id)
    for event in (subscription(), number(new_id())):
        await bus.publish(event, UUID(owner.church_id))
    assert not await ready(owner)


async def test_settings_are_changed_told_and_recorded(bus: BusProbe, owner: Browser) -> None:
    path = f"/api/churches/{owner.church_id}/settings"
    await bus.next(ChurchChanged)
    status, answer = await owner.call("PATCH", path, {"timezone": "America/Denver"})
    assert (status, answer["timezone"], answer["name"]) == (200, "America/Denver", "Grace Chapel")
    changed = await bus.next(ChurchChanged)
    assert (changed.data.version, changed.data.timezone) == (2, "America/Denver")
    act = await bus.next(ActionRecorded, lambda act: act.action == "church.changed")
    assert (act.data.details, str(act.data.actor_id)) == ({"fields": "timezone"}, owner.admin_id)
    assert (await owner.call("PATCH", path, {"timezone": "Mars/Base"}))[0] == 400


async def test_the_same_change_sent_again_is_one_change(owner: Browser, bus: BusProbe) -> None:
    path, headers = f"/api/churches/{owner.church_id}/settings", {"Idempotency-Key": "k1"}
    first = await owner.call("PATCH", path, {"name": "New Name"}, headers=headers)
    again = await owner.call("PATCH", path, {"name": "New Name"}, headers=headers)
    assert first == again
    assert owner.headers["Idempotent-Replayed"] == "true"
    await bus.next(ChurchChanged, lambda church: church.version == 2)
    assert [each for each in await bus.all(ChurchChanged) if each.data.version > 2] == []


async def test_another_churchs_settings_are_not_there(owner: Browser, browsers: NewBrowser) -> None:
    other = browsers()
    await other.register(email="eve@other.example")
    for method, body in (("GET", None), ("PATCH", {"name": "Mine"})):
        assert (await other.call(method, f"/api/churches/{owner.church_id}/settings", body))[0] == 404
    assert (await other.call("GET", "/api/churches/nonsense/settings"))[0] == 404


async def key_of(owner: Browser, role: str = "admin", **more: str) -> tuple[str, dict[str, str]]:
    """A new key's id, and the header to use it with."""
    status, answer = await owner.call("POST", "/api/admin/api-keys", {"name": "Site", "role": role, **more})
    assert status == 201
    return answer["apiKey"]["id"], {"Authorization": f"Bearer {answer['key']}"}


async def test_a_key_opens_without_cookies_and_csrf(owner: Browser, browsers: NewBrowser, bus: BusProbe) -> None:
    key_id, headers = await key_of(owner)
    program = browsers()
    status, me = await program.call("GET", "/api/auth/me", headers=headers)
    assert (status, me["principalKind"], me["principalId"], me["admin"]) == (200, "api_key", key_id, None)
    path = f"/api/churches/{owner.church_id}/settings"
    assert (await program.call("PATCH", path, {"name": "Renamed"}, csrf=False, headers=headers))[0] == 200
    await bus.next(ActionRecorded, lambda act: act.action == "api_key.created")
    act = await bus.next(ActionRecorded, lambda act: act.action == "church.changed")
    assert (act.data.actor_kind, str(act.data.actor_id)) == ("api_key", key_id)
    _, listed = await owner.call("GET", "/api/admin/api-keys")
    assert listed["data"][0]["lastUsedAt"] is not None
    assert "key" not in listed["data"][0]


async def test_a_secret_is_shown_once(owner: Browser) -> None:
    body, headers = {"name": "Site", "role": "viewer"}, {"Idempotency-Key": "once"}
    _, first = await owner.call("POST", "/api/admin/api-keys", body, headers=headers)
    status, again = await owner.call("POST", "/api/admin/api-keys", body, headers=headers)
    assert (status, again["key"], again["apiKey"]) == (201, None, first["apiKey"])
    assert first["key"].startswith(first["apiKey"]["prefix"])


async def test_a_revoked_or_rotated_key_opens_nothing_after_a_second(
    start_gateway: StartGateway, owner: Browser, browsers: NewBrowser, bus: BusProbe
) -> None:
    other = await start_gateway()
    program = browsers(other.url)
    for act in ("rotate", "revoke"):
        key_id, headers = await key_of(owner)
        assert (await program.call("GET", "/api/auth/me", headers=headers))[0] == 200
        if act == "rotate":
            status, answer = await owner.call("POST", f"/api/admin/api-keys/{key_id}/rotate?overlapHours=0")
            fresh = {"Authorization": f"Bearer {answer['key']}"}
            assert (status, (await program.call("GET", "/api/auth/me", headers=fresh))[0]) == (200, 200)
        else:
            assert (await owner.call("DELETE", f"/api/admin/api-keys/{key_id}"))[0] == 204
            assert (await owner.call("DELETE", f"/api/admin/api-keys/{key_id}"))[0] == 404

        async def refused(headers: dict[str, str] = headers) -> bool:
            return (await program.call("GET", "/api/auth/me", headers=headers))[0] == 401

        await wait_until(refused, seconds=1.5)
        await bus.next(ActionRecorded, lambda seen, act=act: seen.action.startswith(f"api_key.{act}"))  # type: ignore[misc]


async def test_an_expired_key_opens_nothing(owner: Browser, browsers: NewBrowser) -> None:
    expires_at = clock.now().replace(microsecond=0).timestamp() + 60
    text = clock.now().fromtimestamp(expires_at, clock.now().tzinfo).isoformat()
    _, headers = await key_of(owner, expiresAt=text)
    program = browsers()
    assert (await program.call("GET", "/api/auth/me", headers=headers))[0] == 200
    with clock.shifted(61):
        assert (await program.call("GET", "/api/auth/me", headers=headers))[0] == 401
        body = {"name": "Late", "role": "viewer", "expiresAt": text}
        status, answer = await owner.call("GET", "/api/auth/me")
        assert (status, body["name"]) == (200, "Late"), answer
        assert (await owner.call("POST", "/api/admin/api-keys", body))[0] == 400


@pytest.mark.parametrize("header", ["Bearer ", "Bearer koi_live_x", "Basic eHg6eHg=", "Bearer " + "x" * 5000])
async def test_what_is_no_key_opens_nothing(owner: Browser, header: str) -> None:
    assert (await owner.call("GET", "/api/auth/me", headers={"Authorization": header}))[0] == 401


@pytest.mark.asvs("v5.0.0-6.3.1")
@pytest.mark.usefixtures("window")
async def test_an_address_that_guesses_keys_is_refused_before_the_database_is_asked(
    start_gateway: StartGateway,
    owner: Browser,
    browsers: NewBrowser,
    count_statements: Callable[[], AbstractContextManager[StatementLog]],
) -> None:
    limited = await start_gateway(rate_limit_webhook="2/1h", trusted_proxies="127.0.0.1")
    _, good = await key_of(owner)
    program = browsers(limited.url)

    async def show(headers: dict[str, str], address: str) -> int:
        return (await program.call("GET", "/api/auth/me", headers={**headers, "X-Forwarded-For": address}))[0]

    assert [await show(good, "203.0.113.1") for _ in range(4)] == [200] * 4
    with count_statements() as counted:
        statuses = [await show({"Authorization": f"Bearer {api_keys.make()[0]}"}, "203.0.113.1") for _ in range(6)]
    assert statuses == [401, 401, 429, 429, 429, 429]
    assert counted.by_name["api_keys.find_by_public_id"] == 3
    assert 0 < int(program.headers["Retry-After"]) <= 3600
    assert await show(good, "203.0.113.1") == 429
    assert await show(good, "203.0.113.2") == 200
    with clock.shifted(3600):
        assert await show(good, "203.0.113.1") == 200


async def test_a_role_opens_what_its_endpoints_say(owner: Browser, browsers: NewBrowser, behind: Behind) -> None:
    _, headers = await key_of(owner, "viewer")
    viewer = browsers()
    assert (await viewer.call("GET", "/api/groups", headers=headers))[0] == 200
    behind.seen.clear()
    for method, path in (("POST", "/api/groups"), ("GET", "/api/admin/api-keys"), ("POST", "/api/messages/send")):
        status, answer = await viewer.call(method, path, {"name": "x"}, csrf=False, headers=headers)
        assert (status, answer["error"]["code"]) == (403, "FORBIDDEN")
    assert behind.seen == []


async def test_keys_are_listed_in_pages_newest_first_for_their_church_only(
    gateway: Service, owner: Browser, browsers: NewBrowser
) -> None:
    made = [(await key_of(owner))[0] for _ in range(3)]
    other = browsers()
    await other.register(email="eve@other.example")
    await key_of(other)
    status, first = await owner.call("GET", "/api/admin/api-keys?limit=2")
    assert (status, [each["id"] for each in first["data"]], first["hasMore"]) == (200, made[:0:-1], True)
    _, second = await owner.call("GET", f"/api/admin/api-keys?limit=2&cursor={first['nextCursor']}")
    assert ([each["id"] for each in second["data"]], second["hasMore"]) == (made[:1], False)
    assert (await other.call("POST", f"/api/admin/api-keys/{made[0]}/rotate"))[0] == 404
    assert (await owner.call("GET", "/api/admin/api-keys?cursor=nonsense"))[0] == 400
