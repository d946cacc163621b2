"""Another church's things are not there: every route with an id answers 404 for them, as for what never was."""

from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

from koinonia.api.auth import ApiKeyRequest
from koinonia.api.branches import BranchRequest
from koinonia.api.groups import GroupRequest
from koinonia.testing.fixtures import wait_until

from .caller import Answer, Caller
from .church import Church
from .page import Route, all_routes

NewChurch = Callable[[], Awaitable[Church]]


async def test_another_churchs_ids_answer_404_on_every_route(new_church: NewChurch) -> None:
    ours, theirs = await new_church(), await new_church()
    things = await make_one_of_each(theirs)
    routes = [route for route in await all_routes(ours.platform.url) if route.ids]
    assert len(routes) > 20
    async with Caller(ours) as stranger, Caller(theirs) as owner:
        for route in routes:
            ids = {name: things[place(route, name)] for name in route.ids}
            answer = await call(stranger, route, ids)
            assert (str(route), answer.status, answer.code) == (str(route), 404, "NOT_FOUND")
            if route.method == "GET" and not route.is_stream:
                assert (str(route), (await call(owner, route, ids)).status) == (str(route), 200)


async def test_another_churchs_ids_in_a_body_are_as_unknown_ones(new_church: NewChurch) -> None:
    ours, theirs = await new_church(), await new_church()
    await ours.add(1)
    things = await make_one_of_each(theirs)
    mine = await make_one_of_each(ours)
    member = {"firstName": "Anna", "phone": "+13129990000"}

    def requests(branch: UUID, group: UUID, person: UUID, number: UUID) -> list[tuple[str, str, object]]:
        send = {"content": "Hello", "targetType": "all"}
        return [
            ("POST", "/api/groups", {"name": "Theirs", "branchId": str(branch)}),
            ("PATCH", f"/api/groups/{mine['groups/id']}", {"branchId": str(branch)}),
            ("POST", f"/api/groups/{mine['groups/id']}/members", {"memberIds": [str(person)]}),
            ("POST", "/api/members", {**member, "branchId": str(branch)}),
            ("POST", "/api/members", {**member, "groupIds": [str(group)]}),
            ("PATCH", f"/api/members/{mine['members/id']}", {"groupIds": [str(group)]}),
            ("POST", "/api/members/import", {"members": [member], "groupIds": [str(group)]}),
            ("POST", "/api/messages/send", {**send, "targetType": "branches", "targetIds": [str(branch)]}),
            ("POST", "/api/messages/send", {**send, "targetType": "groups", "targetIds": [str(group)]}),
            ("POST", "/api/messages/send", {**send, "targetType": "individual", "targetIds": [str(person)]}),
            ("POST", "/api/messages/send", {**send, "numberId": str(number)}),
            ("POST", "/api/messages/preview", {**send, "targetType": "groups", "targetIds": [str(group)]}),
        ]

    foreign = requests(things["branches/id"], things["groups/id"], things["members/id"], things["numbers/id"])
    unknown = requests(uuid4(), uuid4(), uuid4(), uuid4())
    async with Caller(ours) as caller:
        for (method, path, body), (_, _, other) in zip(foreign, unknown, strict=True):
            answer, wanted = await caller.send_json(method, path, body), await caller.send_json(method, path, other)
            assert answer.status in {400, 404}, f"{method} {path} {body}: {answer}"
            assert (answer.status, answer.code) == (wanted.status, wanted.code)
    assert len([one async for one in theirs.client.members.list()]) == 1


async def make_one_of_each(church: Church) -> dict[str, UUID]:
    """Something under each kind of id that a path may have: the noun before it, and its name."""
    client = church.client
    (person,) = await church.add(1)
    member = (await anext(client.members.list())).id
    sent = await church.send("To each its own.")
    await client.messages.wait_until_completed(sent.id, timeout_seconds=30)
    await church.platform.carrier.person_texts(person.phone, church.number, "Hello there")

    async def conversation() -> UUID | None:
        return next(iter([each.id async for each in client.conversations.list()]), None)

    thread = await wait_until(conversation, what="the conversation")
    assert isinstance(thread, UUID)
    return {
        "churches/id": church.id,
        "branches/id": (await client.branches.create(BranchRequest(name="Downtown"))).id,
        "groups/id": (await client.groups.create(GroupRequest(name="Choir"))).id,
        "members/id": member,
        "messages/id": sent.id,
        "recipients/recipientId": (await church.recipients(sent.id))[0].id,
        "conversations/id": thread,
        "api-keys/id": (await client.api_keys.create(ApiKeyRequest(name="Key", role="viewer"))).api_key.id,
        "numbers/id": (await anext(client.numbers.list())).id,
    }


def place(route: Route, name: str) -> str:
    """Which kind of id a parameter is. An unknown kind fails: teach `make_one_of_each` to make one."""
    before = route.path.split("{" + name + "}")[0].rstrip("/").rpartition("/")[2]
    return f"{before}/{name}"


async def call(caller: Caller, route: Route, ids: dict[str, UUID]) -> Answer:
    """The route with these ids, and a good body where it takes one."""
    if route.example is None:
        return await caller.send(route.method, route.url(**ids))
    return await caller.send_json(route.method, route.url(**ids), route.example)
