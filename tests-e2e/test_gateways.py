"""Two gateways behind a balancer: one dies under load, and sessions, sends and streams go on at the other."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from koinonia.api.messages import Message, MessageProgress, SendRequest
from koinonia.client import Client
from koinonia.testing.fixtures import wait_until

from .balancer import Balancer
from .church import PASSWORD, Church
from .test_restarts import SLOW, begin

pytestmark = pytest.mark.native("on containers there is one gateway")

GATEWAYS = ("gateway-1", "gateway-2")
WRITERS = 4
WATCHERS = 16  # fewer than one gateway lets a principal have


@pytest.fixture
async def balancer(church: Church) -> AsyncIterator[Balancer]:
    """In front of both."""
    async with Balancer([church.platform.process(name).url for name in GATEWAYS]) as balancer:
        yield balancer


async def test_a_gateway_killed_under_load_ends_no_session_and_no_stream(church: Church, balancer: Balancer) -> None:
    async with Client(balancer.url, patience_seconds=30) as client:
        await client.auth.login(church.email, PASSWORD)
        broadcast = await begin(church, "While a gateway is killed.", latencies=SLOW)
        watched = [asyncio.create_task(watch(client, broadcast)) for _ in range(WATCHERS)]
        helpers = {person.phone for person in await church.add(WRITERS)}  # whom the carrier answers at once
        to = [member.id async for member in client.members.list() if member.phone in helpers]
        stopping = asyncio.Event()
        load = [asyncio.create_task(keep_on(client, broadcast, stopping, member_id)) for member_id in to]
        both = [church.platform.process(name).port for name in GATEWAYS]
        await wait_until(lambda: min(balancer.taken[port] for port in both) >= WATCHERS // 2, what="streams at both")
        connections = balancer.taken.total()
        assert (await client.messages.get(broadcast.id)).completed_at is None
        await church.platform.kill(GATEWAYS[1])  # the carrier calls the other
        stopping.set()
        sent = [message for messages in await asyncio.gather(*load) for message in messages]
        assert balancer.taken.total() >= connections + WATCHERS // 4, "hardly a stream broke"

        for states in await asyncio.gather(*watched):
            assert states[-1].status == "completed"
            assert states[-1].counts.delivered == broadcast.total_recipients
        me = (await client.auth.me()).admin
        assert me is not None
        assert me.email == church.email
        for message in sent:
            await client.messages.wait_until_completed(message.id, timeout_seconds=60)
        wanted = Counter(message.content for message in sent)
        listed = Counter([message.content async for message in client.messages.list()])
        assert listed == wanted | Counter([broadcast.content])
        texts = [text.text for text in await church.texts() if text.text != broadcast.content]
        assert Counter(texts) == wanted
    await church.agrees(broadcast.id)


async def watch(client: Client, message: Message) -> list[MessageProgress]:
    """Every state until the last, however often the stream breaks."""
    return [state async for state in client.messages.events(message.id)]


async def keep_on(client: Client, seen: Message, stopping: asyncio.Event, member_id: UUID) -> list[Message]:
    """Read and send in the same session until told to stop; what was sent, each once."""
    sent: list[Message] = []
    while not stopping.is_set():
        await client.messages.get(seen.id)
        content = f"Text {len(sent)} to {member_id}."
        sent.append(
            await client.messages.send(
                SendRequest(content=content, target_type="individual", target_ids=[member_id]),
                idempotency_key=f"{member_id}-{len(sent)}",
            )
        )
        await asyncio.sleep(0.1)
    return sent
