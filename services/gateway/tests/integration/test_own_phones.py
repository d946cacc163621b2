"""An admin's own phone over real HTTP, at two gateways: confirmed by a code, few codes, few tries, nobody else's."""

import asyncio
import re
from uuid import UUID

import pytest

from koinonia import clock
from koinonia.db import statement
from koinonia.events.audit import ActionRecorded
from koinonia.events.delivery import TextRequested
from koinonia.security.identity import HEADER, verify_identity
from koinonia.security.keys import Keys
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import BusProbe
from koinonia_gateway.domain import own_phones as rules
from koinonia_gateway.schedule import TIDY_ROWS
from koinonia_gateway.store import own_phones as store

from .conftest import Answer, Behind, Browser, NewBrowser, Service, StartGateway
from .test_sessions import add_colleague

pytestmark = pytest.mark.usefixtures("window")

PHONE, OTHER_PHONE = "+12055550123", "+12055550124"
NOTHING = {"phone": None, "confirmedAt": None, "pendingPhone": None, "codeExpiresAt": None}
STORED = statement(
    "test.stored_phones",
    """
    SELECT string_agg(line, ' ')
    FROM (
        SELECT own_phones::text FROM own_phones
        UNION ALL SELECT phone_codes::text FROM phone_codes
        UNION ALL SELECT convert_from(body, 'UTF8') FROM outbox
    ) AS stored (line)
    """,
)
COUNT = statement("test.count_codes", "SELECT count(*) FROM phone_codes")


async def ask(browser: Browser, phone: str = PHONE) -> Answer:
    return await browser.call("POST", "/api/auth/phone", {"phone": phone})


async def confirm(browser: Browser, code: str, url: str | None = None) -> Answer:
    return await browser.call("POST", "/api/auth/phone/confirm", {"code": code}, url=url)


async def shown(browser: Browser) -> Answer:
    return await browser.call("GET", "/api/auth/phone")


async def code_of(bus: BusProbe, keys: Keys, phone: str = PHONE) -> str:
    """The code in the text that was asked for last to this phone."""
    envelope = await bus.next(TextRequested)
    assert envelope.church_id is not None
    assert keys.decrypt(envelope.data.phone_ciphertext, envelope.church_id, "phone") == phone
    found = re.search(r"\d{6}", envelope.data.content)
    assert found is not None
    return found[0]


def wrong(code: str, add: int = 1) -> str:
    return f"{(int(code) + add) % 1_000_000:06}"


async def test_a_phone_is_confirmed_by_the_code_that_was_texted_to_it(
    owner: Browser, bus: BusProbe, keys: Keys
) -> None:
    assert await shown(owner) == (200, NOTHING)
    status, asked = await ask(owner, "(205) 555-0123")
    assert (status, asked["phone"], asked["pendingPhone"]) == (202, None, PHONE)
    text = await bus.next(TextRequested)
    assert (text.data.purpose, text.data.number_id, text.church_id) == ("code", None, UUID(owner.church_id))
    assert text.data.content.startswith("Grace Chapel: ")
    assert text.data.do_not_send_after == text.data.requested_at + rules.CODE_LIFE
    assert text.data.phone_index == keys.index(PHONE, UUID(owner.church_id), "phone")
    code = text.data.content.split()[2]
    status, confirmed = await confirm(owner, code)
    assert (status, confirmed["phone"], confirmed["pendingPhone"]) == (200, PHONE, None)
    assert await shown(owner) == (200, confirmed)
    await bus.next(ActionRecorded, lambda act: (act.action, act.outcome) == ("own_phone.confirmed", "success"))
    assert (await confirm(owner, code))[0] == 400


async def test_neither_phone_nor_code_is_stored_in_plain(
    owner: Browser, bus: BusProbe, keys: Keys, gateway: Service
) -> None:
    await ask(owner)
    code = await code_of(bus, keys)
    await confirm(owner, code)
    await ask(owner, OTHER_PHONE)
    other = await code_of(bus, keys, OTHER_PHONE)
    async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
        stored = await tx.fetch_value(STORED)
    for plain in (PHONE[1:], OTHER_PHONE[1:], "555-0123", other):
        assert plain not in stored


async def test_five_wrong_codes_at_any_gateways_end_a_code_and_the_right_one_is_too_late(
    owner: Browser, bus: BusProbe, keys: Keys, start_gateway: StartGateway
) -> None:
    second = await start_gateway()
    await ask(owner)
    code = await code_of(bus, keys)
    tried = await asyncio.gather(
        *(confirm(owner, wrong(code, number + 1), (owner.url, second.url)[number % 2]) for number in range(rules.TRIES))
    )
    assert [status for status, _ in tried] == [400] * rules.TRIES
    assert {detail["field"] for _, body in tried for detail in body["error"]["details"]} == {"code"}
    status, body = await confirm(owner, code)
    assert (status, body["error"]["details"]) == (400, tried[0][1]["error"]["details"])
    assert await shown(owner) == (200, NOTHING)
    await ask(owner)
    assert (await confirm(owner, await code_of(bus, keys)))[0] == 200


async def test_four_wrong_codes_leave_the_right_one_good_and_it_is_taken_once(
    owner: Browser, bus: BusProbe, keys: Keys
) -> None:
    await ask(owner)
    code = await code_of(bus, keys)
    for number in range(rules.TRIES - 1):
        assert (await confirm(owner, wrong(code, number + 1)))[0] == 400
    answers = await asyncio.gather(*(confirm(owner, code) for _ in range(3)))
    assert sorted(status for status, _ in answers) == [200, 400, 400]


@pytest.mark.asvs("v5.0.0-6.5.5")
async def test_a_code_ends_after_ten_minutes_with_the_next_one_and_with_removal(
    owner: Browser, bus: BusProbe, keys: Keys
) -> None:
    await ask(owner)
    code = await code_of(bus, keys)
    with clock.shifted(rules.CODE_LIFE.total_seconds() + 1):
        await owner.call("POST", "/api/auth/refresh")
        assert (await confirm(owner, code))[0] == 400
        assert await shown(owner) == (200, NOTHING)
    await owner.log_in()
    await ask(owner)
    first = await code_of(bus, keys)
    await ask(owner)
    second = await code_of(bus, keys)
    assert first == second or (await confirm(owner, first))[0] == 400
    assert (await owner.call("DELETE", "/api/auth/phone"))[0] == 204
    assert (await confirm(owner, second))[0] == 400
    assert await shown(owner) == (200, NOTHING)


async def test_a_code_is_good_for_its_own_phone_and_its_own_admin(
    owner: Browser, browsers: NewBrowser, bus: BusProbe, keys: Keys
) -> None:
    other = browsers()
    assert (await other.register("naomi@hope.example", "Hope Chapel"))[0] == 201
    await ask(owner)
    code = await code_of(bus, keys)
    assert (await confirm(other, code))[0] == 400
    assert (await ask(other))[0] == 202
    if await code_of(bus, keys) != code:
        assert (await confirm(other, code))[0] == 400
    assert (await confirm(owner, code))[0] == 200
    assert (await shown(other))[1]["phone"] is None


async def test_another_phone_takes_the_place_of_the_first_once_it_is_confirmed(
    owner: Browser, bus: BusProbe, keys: Keys
) -> None:
    await ask(owner)
    await confirm(owner, await code_of(bus, keys))
    _, asked = await ask(owner, OTHER_PHONE)
    assert (asked["phone"], asked["pendingPhone"]) == (PHONE, OTHER_PHONE)
    _, confirmed = await confirm(owner, await code_of(bus, keys, OTHER_PHONE))
    assert (confirmed["phone"], confirmed["pendingPhone"]) == (OTHER_PHONE, None)
    assert (await owner.call("DELETE", "/api/auth/phone"))[0] == 204
    assert (await owner.call("DELETE", "/api/auth/phone"))[0] == 204
    assert await shown(owner) == (200, NOTHING)
    removed = [act.data for act in await bus.all(ActionRecorded) if act.data.action == "own_phone.removed"]
    assert len(removed) == 1


async def test_five_codes_go_out_in_an_hour_also_over_removals_and_then_again(
    owner: Browser, bus: BusProbe, keys: Keys, gateway: Service
) -> None:
    for number in range(rules.CODES):
        assert (await ask(owner))[0] == 202
        if number == 2:
            await owner.call("DELETE", "/api/auth/phone")
    status, body = await ask(owner)
    assert (status, body["error"]["code"]) == (429, "RATE_LIMITED")
    assert 0 < int(owner.headers["Retry-After"]) <= 3600
    code = ""
    for _ in range(rules.CODES):
        code = await code_of(bus, keys)
    assert await bus.all(TextRequested) == []
    assert (await confirm(owner, code))[0] == 200
    with clock.shifted(3601):
        await owner.log_in()
        assert (await ask(owner))[0] == 202


async def test_one_phone_gets_few_codes_by_all_admins_of_a_church_and_few_by_all_churches(
    start_gateway: StartGateway, browsers: NewBrowser, bus: BusProbe, keys: Keys
) -> None:
    limited, second = (
        await start_gateway(rate_limit_phone_code="2/1d"),
        await start_gateway(rate_limit_phone_code="2/1d"),
    )

    async def church(number: int) -> Browser:
        browser = browsers(limited.url)
        assert (await browser.register(f"ruth{number}@grace.example"))[0] == 201
        return browser

    async def colleague(of: Browser, number: int) -> Browser:
        email = f"naomi{number}@grace.example"
        admin_id = await add_colleague(limited, keys, of.church_id, email)
        assert (await of.call("PATCH", f"/api/admin/users/{admin_id}", {"role": "sender"}))[0] == 200
        browser = browsers(second.url)
        assert (await browser.log_in(email))[0] == 200
        return browser

    first = await church(1)
    asking = [first, await colleague(first, 1), await colleague(first, 2)]
    answers = [await ask(each, text) for each, text in zip(asking, (PHONE, "(205) 555-0123", PHONE), strict=True)]
    assert [status for status, _ in answers] == [202, 202, 429]
    assert answers[2][1]["error"]["code"] == "RATE_LIMITED"
    assert 0 < int(asking[2].headers["Retry-After"]) <= 86_400
    assert await shown(asking[2]) == (200, NOTHING)
    assert (await ask(asking[2], OTHER_PHONE))[0] == 202
    assert (await ask(await church(2)))[0] == 202
    third = await church(3)
    assert [(await ask(third))[0], (await ask(third))[0]] == [202, 429]
    assert (await ask(third, OTHER_PHONE))[0] == 202
    with clock.shifted(86_400):
        await third.log_in("ruth3@grace.example")
        assert (await ask(third))[0] == 202
    texted = []
    for _ in range(7):
        envelope = await bus.next(TextRequested)
        assert envelope.church_id is not None
        texted.append(keys.decrypt(envelope.data.phone_ciphertext, envelope.church_id, "phone"))
    assert sorted(texted) == [PHONE] * 5 + [OTHER_PHONE] * 2
    assert await bus.all(TextRequested) == []


async def test_what_is_no_phone_is_refused_by_its_name_and_costs_nothing(owner: Browser, bus: BusProbe) -> None:
    for text in ("911", "12345678901234567", "not a phone", "+1205555012x"):
        status, body = await ask(owner, text)
        assert (status, [each["field"] for each in body["error"]["details"]]) == (400, ["phone"])
    assert await bus.all(TextRequested) == []
    assert (await confirm(owner, "12345x"))[1]["error"]["details"][0]["field"] == "code"


async def test_a_viewer_and_an_api_key_have_no_phone_and_a_colleague_a_phone_of_their_own(
    owner: Browser, browsers: NewBrowser, gateway: Service, keys: Keys
) -> None:
    await add_colleague(gateway, keys, owner.church_id, "naomi@grace.example")
    viewer = browsers()
    await viewer.log_in("naomi@grace.example")
    assert (await ask(viewer))[0] == 403
    _, made = await owner.call("POST", "/api/admin/api-keys", {"name": "Key", "role": "admin"})
    bearer = {"Authorization": f"Bearer {made['key']}"}
    status, _ = await browsers().call("POST", "/api/auth/phone", {"phone": PHONE}, csrf=False, headers=bearer)
    assert status == 403


async def test_who_is_removed_leaves_no_phone(
    owner: Browser, browsers: NewBrowser, gateway: Service, bus: BusProbe, keys: Keys
) -> None:
    await add_colleague(gateway, keys, owner.church_id, "naomi@grace.example")
    _, users = await owner.call("GET", "/api/admin/users")
    (naomi,) = [user["id"] for user in users["data"] if user["email"] == "naomi@grace.example"]
    await owner.call("PATCH", f"/api/admin/users/{naomi}", {"role": "sender"})
    colleague = browsers()
    await colleague.log_in("naomi@grace.example")
    await ask(colleague)
    await confirm(colleague, await code_of(bus, keys))
    await ask(colleague, OTHER_PHONE)
    assert (await owner.call("DELETE", f"/api/admin/users/{naomi}"))[0] == 204
    async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
        row = await store.find(tx, UUID(naomi))
    assert row is not None
    assert (row["phone_ciphertext"], row["pending_ciphertext"]) == (None, None)


async def test_who_may_send_no_more_sees_and_removes_their_phone_and_confirms_no_other(
    owner: Browser, browsers: NewBrowser, gateway: Service, bus: BusProbe, keys: Keys
) -> None:
    await add_colleague(gateway, keys, owner.church_id, "naomi@grace.example")
    _, users = await owner.call("GET", "/api/admin/users")
    (naomi,) = [user["id"] for user in users["data"] if user["email"] == "naomi@grace.example"]
    await owner.call("PATCH", f"/api/admin/users/{naomi}", {"role": "sender"})
    colleague = browsers()
    await colleague.log_in("naomi@grace.example")
    await ask(colleague)
    await confirm(colleague, await code_of(bus, keys))
    await ask(colleague, OTHER_PHONE)
    code = await code_of(bus, keys, OTHER_PHONE)
    await owner.call("PATCH", f"/api/admin/users/{naomi}", {"role": "viewer"})

    async def may_not_ask() -> bool:
        return (await colleague.call("POST", "/api/auth/phone", {}))[0] == 403

    await wait_until(may_not_ask, what="the other role")
    assert (await confirm(colleague, code))[0] == 403
    status, phone = await shown(colleague)
    assert (status, phone["phone"]) == (200, PHONE)
    assert (await colleague.call("DELETE", "/api/auth/phone"))[0] == 204
    assert await shown(colleague) == (200, NOTHING)


async def test_codes_that_count_no_more_are_deleted_and_phones_stay(
    owner: Browser, bus: BusProbe, keys: Keys, gateway: Service
) -> None:
    await ask(owner)
    await confirm(owner, await code_of(bus, keys))
    await ask(owner, OTHER_PHONE)
    database = gateway.parts.database
    for hours, left in ((1, 1), (2, 0)):
        with clock.shifted(3600 * hours):
            async with database.across_churches() as tx:
                await store.delete_expired_codes(tx, clock.now() - rules.COUNTED, TIDY_ROWS)
        async with database.tenant(UUID(owner.church_id)) as tx:
            assert await tx.fetch_value(COUNT) == left
    assert (await shown(owner))[1]["phone"] == PHONE


async def test_the_service_that_sends_drafts_is_told_the_callers_own_phone_and_no_other_is(
    owner: Browser, browsers: NewBrowser, behind: Behind, bus: BusProbe, keys: Keys
) -> None:
    async def told(browser: Browser, method: str, path: str, body: object = None) -> tuple[bytes | None, bytes | None]:
        await browser.call(method, path, body)
        identity = verify_identity(keys, behind.seen[-1].headers[HEADER], method=method, path=path)
        return identity.own_phone_index, identity.own_phone_ciphertext

    draft = ("POST", "/api/messages/send-to-me", {"content": "Hello"})
    assert await told(owner, *draft) == (None, None)
    await ask(owner)
    assert await told(owner, *draft) == (None, None)
    await confirm(owner, await code_of(bus, keys))
    index, ciphertext = await told(owner, *draft)
    assert index == keys.index(PHONE, UUID(owner.church_id), "phone")
    assert ciphertext is not None
    assert keys.decrypt(ciphertext, UUID(owner.church_id), "phone") == PHONE
    assert await told(owner, "POST", "/api/messages/preview", {"content": "Hello"}) == (None, None)
    other = browsers()
    await other.register("naomi@hope.example", "Hope Chapel")
    assert await told(other, *draft) == (None, None)
    await owner.call("DELETE", "/api/auth/phone")
    assert await told(owner, *draft) == (None, None)
