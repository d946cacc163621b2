"""Lists of copies: of a message by status, whatever is rare and whatever is not, and of a member."""

from typing import Any
from uuid import UUID

import msgspec
import pytest
from services.delivery.tests.integration.conftest import World, accepted, receipt
from services.delivery.tests.integration.test_chunks import reply, wish
from services.delivery.tests.integration.test_consents import ANNA, BERT, member, tell

from koinonia import api, clock
from koinonia.api.messages import RecipientQuery
from koinonia.errors import NotFound
from koinonia.events.messaging import RecipientsResolved, ResolvedRecipient
from koinonia.ids import new_id
from koinonia_delivery import recipients
from koinonia_delivery.calls import attempt_of
from koinonia_delivery.domain import outcomes
from koinonia_delivery.store import recipients as store


async def listed(world: World, message_id: UUID, status: str, *, limit: int = 2) -> tuple[list[UUID], int]:
    """Everything under a status, page by page, and how many pages there were."""
    found: list[UUID] = []
    cursor: str | None = None
    for pages in range(1, 100):
        async with world.database.tenant(world.church_id) as tx:
            query = RecipientQuery(limit=limit, cursor=cursor, status=status)  # type: ignore[arg-type]
            page = await recipients.list_page(tx, world.keys, message_id, query)
        assert len(page.data) <= limit
        assert all(each.status == status for each in page.data)
        found += [each.id for each in page.data]
        cursor = page.next_cursor
        assert page.has_more == (cursor is not None)
        if cursor is None:
            return found, pages
    raise AssertionError("the list has no end")


async def of_status(world: World, message_id: UUID, status: str) -> list[UUID]:
    return [row["id"] for row in await world.rows(message_id) if row["status"] == status]


async def end_all(world: World, message_id: UUID, status: str, *, but: int = 0) -> None:
    """Let the carrier take all copies and say so of each, but of some."""
    claim = await world.claim(100)
    await world.settle(*(accepted(call.claimed) for call in claim.calls))
    rows = await world.rows(message_id)
    await world.receive(*(receipt(row["id"], status) for row in rows[but:]))


@pytest.mark.parametrize("but", [0, 3, 9])
async def test_a_rare_state_and_a_frequent_one_are_each_listed_whole(world: World, but: int) -> None:
    message_id = await world.store(12)
    await end_all(world, message_id, "delivery_failed", but=but)
    for status in ("undelivered", "sent"):
        expected = await of_status(world, message_id, status)
        assert len(expected) == (12 - but if status == "undelivered" else but)
        assert (await listed(world, message_id, status))[0] == expected


async def test_a_page_looks_at_so_many_rows_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOOKED_AT_ROWS", 5)
    message_id = await world.store(12)
    claim = await world.claim(100)
    await world.settle(*(accepted(call.claimed) for call in claim.calls))
    last = (await world.rows(message_id))[-1]["id"]
    await world.receive(receipt(last, "delivered"))
    # Two pages that are empty and have a next one, and the last.
    assert await listed(world, message_id, "delivered", limit=3) == ([last], 3)
    found, _ = await listed(world, message_id, "sent", limit=3)
    assert found == await of_status(world, message_id, "sent")
    assert len(found) == 11


@pytest.mark.parametrize("place", [4, 5, 9])
async def test_what_stands_where_looking_ends_is_shown_once(
    world: World, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    monkeypatch.setattr(store, "LOOKED_AT_ROWS", 5)
    message_id = await world.store(10)
    claim = await world.claim(100)
    await world.settle(*(accepted(call.claimed) for call in claim.calls))
    wanted = (await world.rows(message_id))[place]["id"]
    await world.receive(receipt(wanted, "delivered"))
    assert (await listed(world, message_id, "delivered"))[0] == [wanted]


async def test_a_problem_leaves_its_list_with_the_next_word(world: World) -> None:
    message_id = await world.store()
    claimed = await world.claim_one()
    await world.settle(outcomes.unknown(attempt_of(claimed), 60.0))
    assert (await listed(world, message_id, "unknown"))[0] == [claimed.recipient_id]
    for word, status in (("delivery_unconfirmed", "unconfirmed"), ("delivery_failed", "undelivered")):
        await world.receive(receipt(claimed.recipient_id, word))
        assert (await listed(world, message_id, status))[0] == [claimed.recipient_id]
    await world.receive(receipt(claimed.recipient_id, "delivered"))
    for status in store.PROBLEMS:
        assert (await listed(world, message_id, status))[0] == []


async def test_what_is_suppressed_when_it_is_stored_is_listed(world: World) -> None:
    await world.suppress(1)
    message_id = await world.store(3)
    expected = await of_status(world, message_id, "suppressed")
    assert len(expected) == 1
    assert (await listed(world, message_id, "suppressed"))[0] == expected


def shared_chunk(world: World, number: int, *member_ids: UUID, **fields: Any) -> RecipientsResolved:
    """A broadcast to one phone, and to these of its people."""
    person = world.person(number)
    named = ResolvedRecipient(
        recipient_id=new_id(),
        member_ids=member_ids,
        phone_index=person.phone_index,
        phone_ciphertext=person.phone_ciphertext,
        fields={"firstName": "Anna"},
    )
    return world.chunk([named], **fields)


async def history(world: World, member_id: UUID, *, limit: int = 100, church_id: UUID | None = None) -> list[Any]:
    """A member's copies, page by page."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        async with world.database.tenant(church_id or world.church_id) as tx:
            query = api.PageQuery(limit=limit, cursor=cursor)
            page = await recipients.list_of_member(tx, world.keys, member_id, query)
        found += page.data
        cursor = page.next_cursor
        if cursor is None:
            return found


async def test_a_member_sees_what_went_to_every_phone_that_was_theirs(world: World) -> None:
    await tell(world, member(world, ANNA), member(world, BERT, number=1))
    first = shared_chunk(world, 0, ANNA)
    await world.apply("delivery.chunks", first)
    # Her new phone is told twice, out of order; the old one's copies stay hers.
    await tell(world, member(world, ANNA, number=3, version=3))
    await tell(world, member(world, ANNA, number=2, version=2))
    second, third = (shared_chunk(world, number, ANNA, content="Later") for number in (2, 3))
    await world.apply("delivery.chunks", second)
    await world.apply("delivery.chunks", third)
    copies = await history(world, ANNA, limit=1)
    assert {each.message_id for each in copies} == {first.message_id, second.message_id, third.message_id}
    assert [each.id for each in copies] == sorted((each.id for each in copies), reverse=True)
    assert copies[-1].content == "Hi Anna"
    assert copies[-1].phone == "+12055560000"
    assert copies[-1].status == "queued"
    assert await history(world, BERT) == []


async def test_a_familys_copy_is_each_ones_and_an_answer_to_nobody_in_particular_too(world: World) -> None:
    await tell(world, member(world, ANNA), member(world, BERT))
    both, hers = shared_chunk(world, 0, ANNA, BERT), shared_chunk(world, 0, ANNA)
    await world.apply("delivery.chunks", both)
    await world.apply("delivery.chunks", hers)
    await world.apply("delivery.texts", msgspec.structs.replace(reply(world), member_id=None))
    assert [(each.kind, each.message_id) for each in await history(world, BERT)] == [
        ("reply", None),
        ("broadcast", both.message_id),
    ]
    assert len(await history(world, ANNA)) == 3


async def test_why_somebody_did_not_get_it_stands_beside_the_text(world: World) -> None:
    await tell(world, member(world, ANNA))
    await world.suppress(0)
    await world.apply("delivery.chunks", shared_chunk(world, 0, ANNA))
    (copy,) = await history(world, ANNA)
    assert (copy.status, copy.error_code, copy.error_message) == (
        "suppressed",
        "suppressed",
        "This person has opted out.",
    )
    assert copy.sent_at is None
    assert abs((copy.created_at - clock.now()).total_seconds()) < 60


async def test_a_code_and_a_draft_are_shown_with_no_member_whoevers_phone_they_go_to(world: World) -> None:
    await tell(world, member(world, ANNA))
    for purpose in ("code", "draft"):
        wanted = wish(world, 0, purpose=purpose)
        await world.apply("delivery.texts", wanted)
        assert await world.statuses(wanted.text_id) == ["queued"]
    assert await history(world, ANNA) == []


async def test_another_churchs_member_is_unknown(world: World) -> None:
    await tell(world, member(world, ANNA))
    for church_id, member_id in ((new_id(), ANNA), (world.church_id, new_id())):
        with pytest.raises(NotFound):
            await history(world, member_id, church_id=church_id)


async def test_a_deleted_members_copies_stay_to_be_seen(world: World) -> None:
    await tell(world, member(world, ANNA))
    await world.apply("delivery.chunks", shared_chunk(world, 0, ANNA))
    await tell(world, member(world, ANNA, version=2, deleted=True, phone_index=None, phone_ciphertext=None))
    assert len(await history(world, ANNA)) == 1


async def test_what_went_to_a_merged_member_is_the_kept_ones_too_in_any_order(world: World) -> None:
    ann = msgspec.structs.replace(member(world, ANNA, version=2), deleted=True, merged_into=BERT)
    await tell(world, member(world, BERT, number=1), ann)
    await tell(world, member(world, ANNA))  # late
    for number, who in ((0, ANNA), (1, BERT)):
        await world.apply("delivery.chunks", shared_chunk(world, number, who))
    assert len(await history(world, BERT)) == 2
    assert len(await history(world, BERT, limit=1)) == 2
    assert await history(world, ANNA) == await history(world, BERT)
