"""What counts as a broker that is away, and what is a bug."""

import asyncio
from typing import Any

import pytest
from aio_pika.exceptions import AMQPConnectionError, ChannelInvalidStateError, ChannelPreconditionFailed

from koinonia.bus import BrokerUnavailable, link
from koinonia.bus.errors import ChannelLost
from koinonia.bus.link import broker_errors, existing_queue


@pytest.mark.parametrize(
    "error",
    [AMQPConnectionError(), ChannelInvalidStateError(), ConnectionResetError(), TimeoutError(), Exception("no reason")],
)
def test_a_lost_connection_is_a_broker_that_is_away(error: Exception) -> None:
    with pytest.raises(BrokerUnavailable) as raised, broker_errors():
        raise error
    assert not isinstance(raised.value, ChannelLost)


def test_a_runtime_error_of_the_library_is_a_broker_that_is_away_and_one_of_ours_is_a_bug() -> None:
    library: dict[str, Any] = {"__name__": "aiormq.connection"}
    exec("def channel():\n    raise RuntimeError('closed')", library)
    with pytest.raises(BrokerUnavailable), broker_errors():
        library["channel"]()
    with pytest.raises(RuntimeError, match="a bug"), broker_errors():
        raise RuntimeError("a bug")


def test_a_channel_that_the_broker_closed_is_kept_apart_and_says_why() -> None:
    with pytest.raises(ChannelLost, match="inequivalent arg"), broker_errors():
        raise ChannelPreconditionFailed("PRECONDITION_FAILED - inequivalent arg")


class _Silent:
    """A channel whose broker says nothing."""

    async def declare_queue(self, name: str, *, passive: bool) -> None:
        await asyncio.Event().wait()


async def test_a_look_at_a_queue_takes_no_longer_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "RPC_SECONDS", 0.01)
    channel: Any = _Silent()
    async with asyncio.timeout(5):
        with pytest.raises(BrokerUnavailable):
            await existing_queue(channel, "billing.usage")
