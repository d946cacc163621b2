"""What accepting a send costs, read from messaging's access log."""

from datetime import timedelta
from uuid import UUID

import pytest

from koinonia import clock
from koinonia.api.groups import GroupRequest
from koinonia.testing.fixtures import wait_until

from .caller import Caller
from .church import Church, people

MOST_STATEMENTS = 8
MANY = 20_000


@pytest.mark.timeout(180)
async def test_accepting_a_send_costs_the_same_for_five_hundred_and_for_twenty_thousand(church: Church) -> None:
    small = await church.client.groups.create(GroupRequest(name="Five hundred"))
    await church.client.members.import_rows([person.row() for person in people(500)], [small.id])
    async with Caller(church) as caller:
        at_once = await accept(church, caller, 500, small.id)
        later = await accept(church, caller, 500, small.id, is_scheduled=True)
        await church.add(MANY - 500)
        for_many = await accept(church, caller, MANY, is_scheduled=True)
    assert at_once <= MOST_STATEMENTS
    assert for_many <= later <= MOST_STATEMENTS


async def accept(
    church: Church, caller: Caller, recipients: int, group_id: UUID | None = None, *, is_scheduled: bool = False
) -> int:
    """How many statements messaging ran to accept a send."""
    tomorrow = clock.now() + timedelta(days=1)
    answer = await caller.send_json(
        "POST",
        "/api/messages/send",
        {
            "content": "How much does it cost?",
            "targetType": "all" if group_id is None else "groups",
            "targetIds": [] if group_id is None else [str(group_id)],
            "scheduledAt": tomorrow.isoformat() if is_scheduled else None,
        },
    )
    assert answer.status == 202, answer
    message = answer.json()["message"]
    assert message["totalRecipients"] == recipients
    if is_scheduled:
        await church.client.messages.cancel(UUID(message["id"]))
    request_id = answer.headers["X-Request-Id"]

    def logged() -> int | None:
        for entry in church.platform.entries("messaging", "request_served"):
            if entry["request_id"] == request_id:
                return int(str(entry["statements"]))
        return None

    statements = await wait_until(logged, what="the line in the access log")
    assert isinstance(statements, int)
    return statements
