"""What reads asks its database a fixed number of things, however much there is: docs/statement-budgets.md."""

import re
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import pytest

from koinonia.api.branches import BranchRequest
from koinonia.api.groups import GroupRequest
from koinonia.api.templates import TemplateRequest
from koinonia.testing.fixtures import wait_until

from .caller import Caller
from .church import Church, people
from .page import Route, all_routes
from .things import make_one_of_each, place

TABLE = Path(__file__).parents[1] / "docs" / "statement-budgets.md"
MORE = 25


def budgets() -> dict[str, int]:
    """The table's lines."""
    lines = re.findall(r"^\| `(/[^`]*)` \| (\w+) \| (\d+) \|", TABLE.read_text(), re.MULTILINE)
    return {path: int(count) for path, _, count in lines}


@pytest.mark.timeout(480)
async def test_every_route_that_reads_keeps_its_budget_however_much_there_is(church: Church) -> None:
    things = await make_one_of_each(church)
    routes = [each for each in await all_routes(church.platform.url) if each.method == "GET" and not each.is_public]
    assert {route.path for route in routes} == budgets().keys()
    async with Caller(church) as caller:
        few = {route.path: await least(church, caller, route, things) for route in routes}
        await add_more(church, things)
        many = {route.path: await least(church, caller, route, things) for route in routes}
    assert over(few) == {}
    assert over(many) == {}


def over(found: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Routes that took more statements than they may, and how many they may."""
    allowed = budgets()
    return {path: (count, allowed[path]) for path, count in found.items() if count > allowed[path]}


async def add_more(church: Church, things: Mapping[str, UUID]) -> None:
    """Many times as much of whatever a list has."""
    client = church.client
    group_ids = [things["groups/id"]]
    for number in range(MORE):
        branch = await client.branches.create(BranchRequest(name=f"Branch {number}"))
        group = await client.groups.create(GroupRequest(name=f"Group {number}", branch_id=branch.id))
        group_ids.append(group.id)
        await client.templates.create(TemplateRequest(name=f"Template {number}", content="Hello"))
    crowd = people(MORE)
    await client.members.import_rows([person.row() for person in crowd], group_ids)
    sent = [await church.send(f"To all, {number}") for number in range(3)]
    for message in sent:
        await client.messages.wait_until_completed(message.id, timeout_seconds=90)
    for person in crowd[:5]:
        await church.platform.carrier.person_texts(person.phone, church.number, "Hello there")


async def least(church: Church, caller: Caller, route: Route, things: Mapping[str, UUID]) -> int:
    """The fewest statements of three times, one right after the other: a session that the gateway has not seen for a
    second is asked for, too. Its owner's access log is read after them, which may take longer than that.
    """
    path = route.url(**{name: things[place(route, name)] for name in route.ids})
    url = path + ("?limit=100" if "limit" in route.query else "")
    answers = [await caller.send("GET", url) for _ in range(3 if owner_of(route) == "gateway" else 1)]
    assert {answer.status for answer in answers} == {200}, (path, answers)
    return min([await statements(church, route, answer.headers["X-Request-Id"]) for answer in answers])


def owner_of(route: Route) -> str:
    return str(route.operation["x-owner"])


async def statements(church: Church, route: Route, request_id: str) -> int:
    """How many the route's owner ran for a request, by its access log."""

    def logged() -> list[int]:
        served = church.platform.entries(owner_of(route), "request_served")
        return [int(str(each["statements"])) for each in served if each["request_id"] == request_id]

    found = await wait_until(logged, what=f"the line of {route} in the access log")
    assert isinstance(found, list)
    return int(max(found))
