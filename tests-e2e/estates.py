"""One of each kind of thing in a church, for requests that name them, and all that a church has, in one digest."""

import asyncio
import json
import secrets
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg

from koinonia import clock
from koinonia.db.cursor import encode_cursor
from koinonia.testing import catalogue
from koinonia.testing.fixtures import wait_until

from .caller import Caller
from .church import Church, people
from .tenants import UUIDS

LISTS = {
    "GET /api/auth/sessions": "/api/auth/sessions",
    "GET /api/admin/api-keys": "/api/admin/api-keys",
    "GET /api/admin/users": "/api/admin/users",
    "GET /api/admin/audit-log": "/api/admin/audit-log",
    "GET /api/branches": "/api/branches",
    "GET /api/branches/stats": "/api/branches/stats",
    "GET /api/groups": "/api/groups",
    "GET /api/groups/{id}/members": "/api/groups/{group}/members",
    "GET /api/members": "/api/members",
    "GET /api/templates": "/api/templates",
    "GET /api/messages": "/api/messages",
    "GET /api/messages/{id}/recipients": "/api/messages/{message}/recipients",
    "GET /api/recurring-messages": "/api/recurring-messages",
    "GET /api/conversations": "/api/conversations",
    "GET /api/conversations/{id}": "/api/conversations/{conversation}",
}
"""Lists of which everybody has two, so that there is a cursor."""


async def make_estates(church: Church, caller: Caller, count: int) -> list[dict[str, str]]:
    """So many times one of each kind; they share the church, its owner, its number and its first branch alone."""
    me, branches, numbers = [
        (await caller.send("GET", path)).json() for path in ("/api/auth/me", "/api/branches", "/api/numbers")
    ]
    common = {
        "church": str(church.id),
        "admin": me["admin"]["id"],
        "home": branches["data"][-1]["id"],
        "number": numbers["data"][0]["id"],
        "cursor of GET /api/numbers": encode_cursor("numbers", (UUID(numbers["data"][0]["id"]),)),
    }
    estates = [
        common | await _people_and_places(caller) | {"session": await _session(church, caller)} for _ in range(count)
    ]
    await asyncio.gather(_own_phone(church, caller), _declined(church, caller, estates))
    await _held(church, caller, estates)
    carrier = church.platform.carrier
    await carrier.order("final_status", [each["phone"] for each in estates], final_status="delivery_unconfirmed")
    await carrier.order("final_status", [each["unreached"] for each in estates], final_status="delivery_failed")
    for estate in estates:
        estate.update(await _messages(caller, estate))
        for words in ("Hello there", "Anybody home?"):
            await carrier.person_texts(estate["phone"], church.number, f"{words} {estate['word']}")
    for estate in estates:
        await _outcomes(church, caller, estate)
        for route, path in LISTS.items():
            estate[f"cursor of {route}"] = await _cursor(caller, path.format_map(estate))
    return estates


async def _people_and_places(caller: Caller) -> dict[str, str]:
    word = f"word{secrets.token_hex(8)}"
    group = await _made(caller, "/api/groups", {"name": f"Group {word}"})
    branch = await _made(caller, "/api/branches", {"name": f"Branch {word}"})
    key = await _made(caller, "/api/admin/api-keys", {"name": f"Key {word}", "role": "viewer"})
    template = await _made(caller, "/api/templates", {"name": f"Template {word}", "content": f"Hi, {word}"})
    invitation = {"email": f"{word}@church.example", "firstName": "Boaz", "lastName": "Miller", "role": "viewer"}
    invited = await _made(caller, "/api/admin/users", invitation)
    estate = {"word": word, "group": group["id"], "branch": branch["id"], "api_key": key["apiKey"]["id"]}
    # What a message excludes cannot be deleted.
    for kind, path in (("other group", "/api/groups"), ("other branch", "/api/branches")):
        estate[kind] = (await _made(caller, path, {"name": f"Other {word}"}))["id"]
    estate |= {"invited": invited["id"], "template": template["id"]}
    for number, person in enumerate(people(4)):
        body = {**person.row(), "lastName": word, "externalId": f"external-{number}-{word}", "groupIds": [group["id"]]}
        made = await _made(caller, "/api/members", body)
        estate[f"external id {number}"] = made["externalId"]
        estate |= {"member": made["id"], "phone": made["phone"]} if number == 0 else {"unreached": made["phone"]}
    (person,) = people(1)
    for kind, first in (("double", "Ann"), ("other double", "Anna")):
        body = {**person.row(), "firstName": first, "lastName": word}
        estate[kind] = (await _made(caller, "/api/members", body))["id"]
    estate["cursor of GET /api/members/duplicates"] = encode_cursor(
        "members.listDuplicates", ("phone", UUID(estate["double"]))
    )
    row = {**people(1)[0].row(), "lastName": word, "groupIds": [group["id"]]}
    imported = await caller.send_json("POST", "/api/members/import", {"members": [row]})
    return estate | {"import": imported.json()["id"]}


async def _session(church: Church, caller: Caller) -> str:
    """One more of the same admin's."""
    async with Caller(church):
        newest = (await caller.send("GET", "/api/auth/sessions?limit=1")).json()["data"][0]
    return str(newest["id"])


async def _own_phone(church: Church, caller: Caller) -> None:
    """The caller's, to which drafts can be sent."""
    phone = people(1)[0].phone
    for path, body in (("", {"phone": phone}), ("/confirm", None)):
        answer = await caller.send_json("POST", f"/api/auth/phone{path}", body or {"code": await church.code(phone)})
        assert answer.status < 300, answer


async def _declined(church: Church, caller: Caller, estates: list[dict[str, str]]) -> None:
    """A message of each that the plan did not cover; then the church gets another plan, and it can be sent again."""
    database = await asyncpg.connect(church.platform.state.read_processes()["postgres"].url)
    try:  # what the tests' trial includes is more than anybody can use up
        used_up = "UPDATE billing.subscriptions SET included_segments = 0 WHERE church_id = $1 RETURNING true"
        assert await database.fetchval(used_up, church.id)
    finally:
        await database.close()
    for estate in estates:
        send = {"content": f"Too much {estate['word']}", "targetType": "groups", "targetIds": [estate["group"]]}
        estate["declined"] = (await _made(caller, "/api/messages/send", send))["message"]["id"]

    async def are_declined() -> bool:
        answers = [await caller.send("GET", f"/api/messages/{estate['declined']}") for estate in estates]
        return {answer.json()["status"] for answer in answers} == {"declined"}

    await wait_until(are_declined, seconds=60, what="what the plan does not cover")
    status, said = await church.platform.command("church", "plan", str(church.id), "growth")
    assert status == 0, said


async def _held(church: Church, caller: Caller, estates: list[dict[str, str]]) -> None:
    """Two messages of each that somebody else has asked for, and that wait for the caller's word."""
    somebody = {"Authorization": f"Bearer {await church.api_key('sender')}"}

    async def sent(estate: dict[str, str], status: str) -> str | None:
        """One's id, if that is its status: the church's settings hold within seconds."""
        send = {
            "content": f"Perhaps to {estate['word']}",
            "targetType": "groups",
            "targetIds": [estate["group"]],
            "allowDuplicate": True,
            "scheduledAt": (clock.now() + timedelta(days=700)).isoformat(),
        }
        answer = await caller.send("POST", "/api/messages/send", json.dumps(send).encode(), somebody)
        assert answer.status == 202, answer
        message = answer.json()["message"]
        return str(message["id"]) if message["status"] == status else None

    for above, status, kinds in ((0, "awaiting_approval", ("held", "other held")), (None, "scheduled", ("",))):
        settings = f"/api/churches/{church.id}/settings"
        answer = await caller.send_json("PATCH", settings, {"approvalAbove": above})
        assert answer.status == 200, answer
        for kind in kinds:
            for estate in estates:
                found = await wait_until(partial(sent, estate, status), what=f"a message that is {status}")
                estate.update({kind: str(found)} if kind else {})


async def _messages(caller: Caller, estate: dict[str, str]) -> dict[str, str]:
    """One that goes out to two people and more, and does not reach all; two that wait, one that recurs."""
    send = {"content": f"To {estate['word']}", "tags": [estate["word"]], "targetType": "groups"}
    sent = await _made(caller, "/api/messages/send", {**send, "targetIds": [estate["group"]]})
    waits = {
        **send,
        "targetIds": [estate["group"]],
        "allowDuplicate": True,
        "scheduledAt": (clock.now() + timedelta(days=700)).isoformat(),
    }
    scheduled = await _made(caller, "/api/messages/send", waits)
    planned = await _made(caller, "/api/messages/send", waits)
    rule = {"rrule": "FREQ=YEARLY", "timezone": "UTC", "startAt": "2050-01-01T00:00:00Z"}
    again = {**send, "targetIds": [estate["group"]], "schedule": rule}
    recurring = await _made(caller, "/api/recurring-messages", again)
    return {
        "message": sent["message"]["id"],
        "scheduled": scheduled["message"]["id"],
        "planned": planned["message"]["id"],  # to be changed, and so perhaps sent
        "recurring": recurring["id"],
    }


async def _outcomes(church: Church, caller: Caller, estate: dict[str, str]) -> None:
    """Wait for the message's end and for the conversation."""
    await church.client.messages.wait_until_completed(UUID(estate["message"]), timeout_seconds=60)
    rows = await church.recipients(UUID(estate["message"]))
    (recipient,) = [row for row in rows if row.phone == estate["phone"]]
    assert recipient.status == "unconfirmed"
    estate["recipient"] = str(recipient.id)
    after = encode_cursor(f"member messages {estate['member']}", (recipient.id,))
    estate["cursor of GET /api/members/{id}/messages"] = after
    events = (await caller.send("GET", f"/api/messages/{estate['message']}/events")).body.decode()
    estate["position"] = events.partition("id: ")[2].partition("\n")[0]

    async def conversation() -> str | None:
        inbox = (await caller.send("GET", "/api/conversations?limit=100")).json()["data"]
        found = [each["id"] for each in inbox if each["phone"] == estate["phone"] and each["unreadCount"] == 2]
        return found[0] if found else None

    found = await wait_until(conversation, what="the conversation")
    assert isinstance(found, str)
    estate["conversation"] = found


async def _cursor(caller: Caller, path: str) -> str:
    page = (await caller.send("GET", f"{path}?limit=1")).json()
    cursor = page.get("messages", page)["nextCursor"]
    assert cursor, f"{path} has one row only"
    return str(cursor)


async def _made(caller: Caller, path: str, body: object) -> Any:
    answer = await caller.send_json("POST", path, body)
    assert answer.status in {201, 202}, f"{path}: {answer}"
    return answer.json()


STILL = timedelta(seconds=1)  # longer than any event is in a queue, or in a batch that is being gathered


class Belongings:
    """All rows of churches, read past every policy."""

    def __init__(self, church: Church) -> None:
        self._url = church.platform.state.read_processes()["postgres"].url

    async def of(self, church_id: UUID) -> dict[str, list[str]]:
        """A church's rows by table."""
        connection = await asyncpg.connect(self._url)
        try:
            query = "SELECT row::text FROM {}.{} AS row WHERE church_id = $1 ORDER BY 1"
            return {
                f"{schema}.{table}": [row[0] for row in await connection.fetch(query.format(schema, table), church_id)]
                for schema, table in await catalogue.tenant_tables(connection)
            }
        finally:
            await connection.close()

    async def settled(self, churches: Sequence[Church]) -> list[dict[str, list[str]]]:
        """The same once nothing of any of these is on its way any more."""
        found: list[dict[str, list[str]]] = []
        since = clock.now()

        async def is_still() -> bool:
            nonlocal found, since
            before, found = found, [await self.of(church.id) for church in churches]
            waits = any(rows for each in found for name, rows in each.items() if name.endswith((".outbox", ".parked")))
            if waits or found != before:
                since = clock.now()
            return clock.now() - since >= STILL

        await wait_until(is_still, seconds=60, what="the end of all that was begun")
        return found


def uuids_in(rows: dict[str, list[str]]) -> set[str]:
    """Every id in these rows, whatever it is of."""
    return {found for lines in rows.values() for line in lines for found in UUIDS.findall(line)}
