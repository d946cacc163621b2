"""Rubbish to every route as an owner: refused by name, never a crash, and the platform goes on as before."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import pytest

from .caller import Answer, Caller
from .church import Church
from .page import Route, all_routes
from .rubbish import Rubbish, rubbish_for
from .things import make_one_of_each, place
from .verdict import failed_requests, fault_of, send_at_once, still_works

AT_ONCE = 8


@pytest.mark.timeout(180)
@pytest.mark.asvs("v5.0.0-2.2.2")
async def test_rubbish_to_every_route_is_refused_and_breaks_nothing(church: Church) -> None:
    things = await make_one_of_each(church)
    faults: list[str] = []
    answered: Counter[int] = Counter()
    for route in await all_routes(church.platform.url):
        ids = {name: str(things[place(route, name)]) for name in route.ids}
        async with Caller(church) as caller:  # a session of its own: a route may end it
            for batch in batches(rubbish_for(route, ids), AT_ONCE):
                answers = await asyncio.gather(*(send(caller, route, each) for each in batch))
                answered.update(answer.status for answer in answers)
                faults += [
                    f"{route}, {each.what}: {fault}"
                    for each, answer in zip(batch, answers, strict=True)
                    if (fault := fault_of(route, answer))
                ]
    assert not faults, f"{len(faults)} of {answered.total()} answers:\n" + "\n".join(faults[:40])
    assert answered[400] > 1000
    assert failed_requests(church.platform) == []
    async with Caller(church) as caller:
        await send_at_once(church, caller)
    await still_works(church)


async def send(caller: Caller, route: Route, rubbish: Rubbish) -> Answer:
    """Send it; a stream is read to its end, which a final message's comes to at once."""
    return await caller.send(route.method, rubbish.path, rubbish.body, rubbish.headers)


def batches(items: Iterator[Rubbish], size: int) -> Iterator[list[Rubbish]]:
    """So many at a time."""
    while batch := list(islice(items, size)):
        yield batch
