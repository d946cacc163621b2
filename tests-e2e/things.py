"""Something of each kind in a church, and which kind of id stands at a place of a route's path."""

from uuid import UUID

from koinonia.api.admins import InvitationRequest
from koinonia.api.auth import ApiKeyRequest
from koinonia.api.branches import BranchRequest
from koinonia.api.groups import GroupRequest
from koinonia.api.recurring import RecurringRequest
from koinonia.api.templates import TemplateRequest
from koinonia.testing.fixtures import wait_until

from .church import Church
from .page import Route


async def make_one_of_each(church: Church) -> dict[str, UUID]:
    """Something under each kind of id that a path may have: the noun before it, and its name."""
    client = church.client
    (person,) = await church.add(1)
    member = (await anext(client.members.list())).id
    sent = await church.send("To each its own.")
    await client.messages.wait_until_completed(sent.id, timeout_seconds=90)
    await church.platform.carrier.person_texts(person.phone, church.number, "Hello there")

    async def conversation() -> UUID | None:
        return next(iter([each.id async for each in client.conversations.list()]), None)

    thread = await wait_until(conversation, what="the conversation")
    imported = (await client.members.import_rows([person.row()])).id
    assert isinstance(thread, UUID)
    assert imported is not None
    return {
        "churches/id": church.id,
        "branches/id": (await client.branches.create(BranchRequest(name="Downtown"))).id,
        "groups/id": (await client.groups.create(GroupRequest(name="Choir"))).id,
        "imports/id": imported,
        "recurring-messages/id": (await client.recurring_messages.create(RecurringRequest.example())).id,
        "templates/id": (await client.templates.create(TemplateRequest.example())).id,
        "members/id": member,
        "messages/id": sent.id,
        "recipients/recipientId": (await church.recipients(sent.id))[0].id,
        "conversations/id": thread,
        "api-keys/id": (await client.api_keys.create(ApiKeyRequest(name="Key", role="viewer"))).api_key.id,
        "users/id": (await client.admins.invite(InvitationRequest.example())).id,
        "numbers/id": (await anext(client.numbers.list())).id,
        "sessions/id": (await anext(client.auth.sessions())).id,
    }


def place(route: Route, name: str) -> str:
    """Which kind of id a parameter is. An unknown kind fails: teach `make_one_of_each` to make one."""
    before = route.path.split("{" + name + "}")[0].rstrip("/").rpartition("/")[2]
    return f"{before}/{name}"
