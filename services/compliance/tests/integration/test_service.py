"""Compliance as a process, over real queues: two replicas, a broken event, a STOP from the bus to its answer."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from koinonia import clock
from koinonia.events import Envelope
from koinonia.events.carrier import MessageReceived
from koinonia.events.compliance import ComplianceReplyRequested, SuppressionAdded, SuppressionRemoved
from koinonia.settings import ServiceSettings
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import BusProbe, StartService
from koinonia_compliance.app import build

Says = Callable[..., Envelope[MessageReceived]]


async def test_a_stop_travels_from_the_bus_to_its_answer_and_its_confirmation(
    start_service: StartService, bus: BusProbe, says: Says, church_id: UUID
) -> None:
    await start_service("compliance", build, ServiceSettings)
    stop = says("STOP")
    await bus.publish_envelope(stop)
    added = await bus.next(SuppressionAdded)
    assert (added.church_id, added.data.inbound_event_id, added.causation_id) == (church_id, stop.id, str(stop.id))
    reply = await bus.next(ComplianceReplyRequested)
    assert (reply.church_id, reply.data.inbound_event_id) == (church_id, stop.id)


async def test_two_replicas_answer_each_text_of_a_number_once_and_agree(
    start_service: StartService, bus: BusProbe, says: Says
) -> None:
    for _ in range(2):
        await start_service("compliance", build, ServiceSettings)
    begin = clock.now() - timedelta(minutes=1)
    texts = [says("STOP" if number % 3 else "START", at=begin + timedelta(seconds=number % 7)) for number in range(30)]
    for text in [*texts, *texts]:
        await bus.publish_envelope(text)

    async def answers() -> list[Envelope[SuppressionAdded] | Envelope[SuppressionRemoved]]:
        return [*await bus.all(SuppressionAdded), *await bus.all(SuppressionRemoved)]

    async def all_answered() -> bool:
        return {each.data.inbound_event_id for each in await answers()} == {each.id for each in texts}

    await wait_until(all_answered)
    told = sorted(await answers(), key=lambda each: each.data.version)
    assert [each.data.version for each in told] == list(range(1, 31))
    latest = max(each.data.occurred_at for each in texts)
    assert told[-1].data.occurred_at == latest
    assert isinstance(told[-1].data, SuppressionAdded)
