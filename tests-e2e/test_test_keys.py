"""What a test key sends runs through the whole platform, and reaches nobody."""

import asyncio

from koinonia.api.auth import ApiKeyRequest
from koinonia.client import Client
from koinonia.testing.fixtures import wait_until

from .church import Church
from .platform import Platform


async def test_a_test_message_comes_to_its_end_beside_live_ones_and_reaches_nobody(
    church: Church, platform: Platform
) -> None:
    people = await church.add(40)
    made = await church.client.api_keys.create(ApiKeyRequest(name="Staging", role="sender", kind="test"))
    assert made.key is not None
    assert made.key.startswith("koi_test_")
    async with Client(platform.url, api_key=made.key) as program:
        tester = Church(platform, program, church.id, church.email, church.number)
        sent = await asyncio.gather(
            *(
                who.send(f"{kind} {number}.")
                for number in range(3)
                for kind, who in (("Test", tester), ("Live", church))
            )
        )
        ended = [await church.client.messages.wait_until_completed(each.id, timeout_seconds=60) for each in sent]
        assert [each.test for each in ended] == [True, False] * 3
        assert all((each.status, each.counts.delivered) == ("completed", len(people)) for each in ended)
        tests = {each.id for each in ended if each.test}
        assert {message.id async for message in program.messages.list()} == tests
        assert {message.id async for message in church.client.messages.list()} == {each.id for each in ended} - tests
    texts = [text.text or "" for text in await church.texts()]
    assert len(texts) == 3 * len(people)
    assert all(text.startswith("Live") for text in texts)
    assert (await church.is_metered(3 * len(people))).used_segments == 3 * len(people)

    async def is_logged() -> bool:
        found = [entry async for entry in church.client.audit.list(action="message.accepted")]
        return {entry.target_id for entry in found if entry.details.get("test") == "true"} == tests

    await wait_until(is_logged, what="an audit log that tells tests")
