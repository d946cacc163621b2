"""The main job, from registering to the bill, as a church lives it."""

import csv
import io
from collections.abc import Awaitable, Callable
from uuid import UUID

from koinonia.api.branches import BranchRequest
from koinonia.api.groups import GroupRequest
from koinonia.api.members import MemberRequest
from koinonia.api.messages import SendRequest
from koinonia.client import Client
from koinonia.testing.fixtures import wait_until

from .church import Church, people
from .platform import Platform


async def test_a_church_registers_and_is_ready_within_seconds(church: Church) -> None:
    settings = await church.client.churches.settings(church.id)
    assert (settings.name, settings.ready) == ("Grace Chapel", True)
    assert [branch.is_default async for branch in church.client.branches.list()] == [True]
    assert (await church.client.billing.subscription()).status == "trialing"
    me = await church.client.auth.me()
    assert (me.role, me.principal_kind, me.church.id) == ("owner", "session", church.id)
    assert me.admin is not None
    assert me.admin.email == church.email


async def test_a_broadcast_reaches_all_a_branch_a_group_and_named_members(church: Church) -> None:
    client = church.client
    downtown = await client.branches.create(BranchRequest(name="Downtown"))
    choir = await client.groups.create(GroupRequest(name="Choir"))
    everybody = people(12)
    ids: list[UUID] = []
    for person in everybody[:4]:
        member = await client.members.create(
            MemberRequest(
                first_name=person.first_name,
                last_name=person.last_name,
                phone=f"({person.phone[2:5]}) {person.phone[5:8]}-{person.phone[8:]}",
                email=person.email,
                branch_id=downtown.id,
                opt_in_sms=True,
            )
        )
        assert member.phone == person.phone
        ids.append(member.id)
    imported = await client.members.import_csv(as_csv([person.row() for person in everybody[4:]]))
    assert (imported.created, imported.errors) == (8, [])
    assert (await client.groups.add_members(choir.id, ids[2:])).member_count == 2
    assert len([member async for member in client.members.list()]) == 12

    segments = 0
    audiences = {
        "all": ([], everybody),
        "branches": ([downtown.id], everybody[:4]),
        "groups": ([choir.id], everybody[2:4]),
        "individual": ([ids[0], ids[3]], [everybody[0], everybody[3]]),
    }
    for target_type, (target_ids, wanted) in audiences.items():
        sent = await church.send(f"The service is moved indoors ({target_type}).", target_type, target_ids)
        message = await client.messages.wait_until_completed(sent.id, timeout_seconds=90)
        assert (message.status, message.total_recipients) == ("completed", len(wanted))
        assert message.counts.delivered == len(wanted)
        assert message.handed_over_at is not None
        assert message.completed_at is not None
        assert message.created_at <= message.handed_over_at <= message.completed_at
        rows = await church.agrees(sent.id)
        assert {row.phone for row in rows} == {person.phone for person in wanted}
        assert all(row.sent_at and row.delivered_at and row.member_id for row in rows)
        segments += sum(row.segments for row in rows)

    usage = await church.is_metered(segments)
    assert usage.recipients == segments == 20
    assert usage.used_segments == segments
    assert [message.target_type async for message in client.messages.list()] == [*reversed(audiences)]


async def test_fields_are_filled_in_for_each_person(church: Church) -> None:
    (anna,) = await church.add(1)
    sent = await church.send("Hi {{firstName}} {{lastName}}, see you on Sunday.")
    await church.client.messages.wait_until_completed(sent.id, timeout_seconds=90)
    (text,) = await church.texts()
    assert text.text == f"Hi {anna.first_name} {anna.last_name}, see you on Sunday."


async def test_live_progress_moves_only_forward_and_ends(church: Church) -> None:
    everybody = await church.add(200)
    await church.platform.carrier.order("latency", [person.phone for person in everybody], seconds=0.3)
    sent = await church.send("Progress is shown while it happens.")
    states = [state async for state in church.client.messages.events(sent.id)]
    versions = [state.version for state in states]
    assert versions == sorted(set(versions))
    assert len(states) >= 3
    assert states[0].status != "completed"
    assert (states[-1].status, states[-1].counts.delivered) == ("completed", 200)
    closed = [state.counts.delivered for state in states]
    assert closed == sorted(closed)


async def test_an_api_key_sends_as_well_as_a_session(church: Church, platform: Platform) -> None:
    await church.add(3)
    async with Client(platform.url, api_key=await church.api_key("sender")) as program:
        me = await program.auth.me()
        assert (me.principal_kind, me.role, me.admin) == ("api_key", "sender", None)
        sent = await Church(platform, program, church.id, church.email, church.number).send("From a program.")
        message = await program.messages.wait_until_completed(sent.id, timeout_seconds=90)
        assert message.counts.delivered == 3
    await church.agrees(sent.id)


async def test_the_same_send_again_under_its_key_is_the_same_message(church: Church) -> None:
    await church.add(2)
    request = SendRequest(content="Once only.", target_type="all")
    first = await church.client.messages.send(request, idempotency_key="sunday-1")
    again = await church.client.messages.send(request, idempotency_key="sunday-1")
    assert again.id == first.id
    await church.client.messages.wait_until_completed(first.id, timeout_seconds=90)
    assert len(await church.texts()) == 2


async def test_everything_that_was_done_stands_in_the_audit_log(church: Church) -> None:
    await church.client.groups.create(GroupRequest(name="Choir"))
    await church.add(1)
    await church.api_key()
    sent = await church.send("Who did that?")
    owner = (await church.client.auth.me()).principal_id
    wanted = {"church.registered", "group.created", "members.imported", "api_key.created", "message.accepted"}

    async def is_logged() -> bool:
        return wanted <= {entry.action async for entry in church.client.audit.list()}

    await wait_until(is_logged, what=f"an audit log with {wanted}")
    (entry,) = [entry async for entry in church.client.audit.list(action="message.accepted")]
    assert (entry.target_kind, entry.target_id) == ("message", sent.id)
    assert (entry.actor_id, entry.outcome) == (owner, "success")
    assert entry.address == church.platform.client_address


async def test_a_church_sees_nothing_of_another(new_church: Callable[[], Awaitable[Church]]) -> None:
    ours, theirs = await new_church(), await new_church()
    await ours.add(2)
    await ours.client.messages.wait_until_completed((await ours.send("Ours.")).id, timeout_seconds=90)
    assert [member async for member in theirs.client.members.list()] == []
    assert [message async for message in theirs.client.messages.list()] == []
    assert (await theirs.client.billing.usage()).segments == 0
    assert ours.number != theirs.number


def as_csv(rows: list[dict[str, object]]) -> str:
    """A file as a spreadsheet saves it."""
    output = io.StringIO()
    writer = csv.DictWriter(output, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return output.getvalue()
