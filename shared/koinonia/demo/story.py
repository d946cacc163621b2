"""The story: a church registers, imports its people, texts them, is answered, is told to stop, and reads its bill.

All of it through the public API, as a church's own program would; only what people do with their phones goes through
the simulated carrier.
"""

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Self
from uuid import UUID

from rich.console import Console
from rich.markup import escape

from koinonia.api.auth import RegisterRequest
from koinonia.api.branches import BranchRequest
from koinonia.api.conversations import Conversation
from koinonia.api.groups import GroupRequest
from koinonia.api.messages import Message, MessagePreview, SendRequest
from koinonia.client import Client
from koinonia.demo import people, progress
from koinonia.demo.carrier import DemoCarrier
from koinonia.demo.figures import Expected, Section, all_agree, compare, exact
from koinonia.demo.people import Person, Roster
from koinonia.demo.platform import Place
from koinonia.demo.sources import Ledger, collect, everything
from koinonia.demo.waiting import DemoFailed, until
from koinonia.security.phones import national

_READY_SECONDS = 60.0
_ANSWER_SECONDS = 30.0
_BROADCAST_SECONDS = 240.0
_BOOKS_SECONDS = 30.0

SUNDAY = "Hi {{firstName}}, this Sunday we worship together at 10, with lunch for everybody afterwards. See you there!"
LUNCH = "Hi {{firstName}}, lunch moves indoors because of the rain. Same time, same table."
QUESTION = "Lovely! Can I bring my sister?"
ANSWER = "Of course, we are glad to have her. See you both on Sunday!"


class Story:
    """One telling, on one platform."""

    def __init__(self, console: Console, place: Place) -> None:
        self._console = console
        self._place = place
        self._client = Client(place.url, patience_seconds=20.0)
        self._carrier = DemoCarrier(place.carrier_url)
        self._number = ""
        self._message_ids: list[UUID] = []

    async def __aenter__(self) -> Self:
        await self._carrier.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._carrier.__aexit__(*exception)
        await self._client.__aexit__(*exception)

    async def play(self) -> list[Section]:
        """Tell all of it; returns the figures, compared.

        Raises:
            DemoFailed: a step did not come out.
        """
        text = people.FILE.read_text(encoding="utf-8")
        roster = people.read(text)
        guest, leaver, unreachable = roster.singles[:3]
        church_id = await self._register()
        members = await self._import(text, roster)
        await self._carrier.put_out_of_service(unreachable.phone, texts=2)
        without_consent = len(roster.numbers) - len(roster.textable)

        first = await self._broadcast("The first broadcast", SUNDAY, roster, without_consent)
        await self._answer(guest)
        await self._stop(leaver)
        second = await self._broadcast("The second, after the STOP", LUNCH, roster, without_consent + 1)
        sections = await self._reckon(church_id, [first, second])
        held = await self._held(leaver, second.message_id)
        return [members, *sections, held]

    async def _register(self) -> UUID:
        with self._step("A church registers"):
            session = await self._client.auth.register(_church())
            church = session.church
            await until(
                "the church to have branch, plan and number", lambda: self._ready(church.id), seconds=_READY_SECONDS
            )
            numbers, subscription = await asyncio.gather(
                everything(self._client.numbers.list()), self._client.billing.subscription()
            )
            self._number = numbers[0].phone_number
            plan = subscription.plan
            self._say(f"{church.name} has the number {national(self._number)}")
            self._say(f"and the {plan.name} plan with {plan.included_segments:,} segments")
        return church.id

    async def _import(self, text: str, roster: Roster) -> Section:
        with self._step(f"Its people come in from {people.FILE.name}"):
            branches = {name: (await self._branch(name)) for name in people.branch_names(text)}
            groups = {name: (await self._group(name)) for name in people.group_names(text)}
            self._say(f"branches: {', '.join(branches)}; groups: {', '.join(groups)}")
            result = await self._client.members.import_csv(people.with_ids(text, branches, groups))
            for error in result.errors:
                self._say(f"[yellow]row {error.row}, {escape(error.field)}: {escape(error.message)}[/]")
            members = await everything(self._client.members.list())
            self._say(f"{result.created} people are in; {len(result.errors)} rows stayed out, with their reasons")
        refused = len({error.row for error in result.errors})
        lines = (
            exact("rows refused", "no phone, no name, …", file=roster.refused, api=refused),
            exact("rows repeated", "the same person twice", file=roster.repeated, api=result.skipped + result.updated),
            exact(
                "members",
                f"{roster.rows} rows − {roster.refused} refused − {roster.repeated} repeated",
                file=len(roster.people),
                api=result.created,
                copies=len(members),
            ),
        )
        return Section("The people", lines)

    async def _broadcast(self, title: str, content: str, roster: Roster, suppressed: int) -> Expected:
        with self._step(title):
            request = SendRequest(content=content, target_type="all")
            preview = await self._client.messages.preview(request)
            self._show(preview)
            message = await self._client.messages.send(request)
            self._message_ids.append(message.id)
            await self._follow(title, message)
        numbers = len(roster.numbers)
        return Expected(
            title=title,
            message_id=message.id,
            ending=content.rpartition("}}")[2],
            numbers=numbers,
            suppressed=suppressed,
            failed=1,
            note=f"{len(roster.people)} members − {len(roster.people) - numbers} on shared phones",
        )

    async def _follow(self, title: str, message: Message) -> None:
        """Show the message's progress to its end."""
        last = None
        try:
            async with asyncio.timeout(_BROADCAST_SECONDS):
                last = await progress.show(self._console, "sending", self._client.messages.events(message.id))
        except TimeoutError:
            message = await self._client.messages.get(message.id)
            state = f"{message.status}: {progress.words(message.counts)}"
            raise DemoFailed(f"{title} is not through after {_BROADCAST_SECONDS:g} s ({state})") from None
        if last is None or last.status != "completed":
            raise DemoFailed(f"{title} ended as {last.status if last else 'nothing'}")
        self._say(progress.words(last.counts))

    async def _answer(self, guest: Person) -> None:
        with self._step(f"{guest.name} writes back"):
            await self._carrier.text_in(guest.phone, self._number, QUESTION)
            self._quote(guest.first_name, QUESTION)
            conversation = await until(
                "the text to be in the inbox", lambda: self._unread(guest), seconds=_ANSWER_SECONDS
            )
            whose = conversation.member
            self._say(f"in the inbox, unread, from {whose.first_name} {whose.last_name}" if whose else "in the inbox")
            reply = await self._client.conversations.reply(conversation.id, ANSWER)
            self._quote("the church", ANSWER)
            await until(
                "the reply to be delivered", lambda: self._delivered(conversation.id, reply.id), seconds=_ANSWER_SECONDS
            )
            await self._client.conversations.mark_read(conversation.id)
            self._say(f"delivered to {guest.first_name}'s phone")

    async def _stop(self, leaver: Person) -> None:
        with self._step(f"{leaver.name} has had enough"):
            await self._carrier.text_in(leaver.phone, self._number, "STOP")
            self._quote(leaver.first_name, "STOP")
            await until("the STOP to hold", lambda: self._opted_out(leaver), seconds=_ANSWER_SECONDS)
            self._say("opted out, from this moment on")

    async def _reckon(self, church_id: UUID, broadcasts: Sequence[Expected]) -> list[Section]:
        """Read the figures until they agree; returns the last reading when they never do."""
        ledger = Ledger(self._place.database_url, church_id)
        sections: list[Section] = []

        async def agreed() -> bool | None:
            nonlocal sections
            evidence = await collect(self._client, ledger, self._carrier, self._number, self._message_ids)
            sections = compare(broadcasts, evidence)
            return all_agree(sections) or None

        try:
            with self._step("The bill"):
                await until("the figures to agree", agreed, seconds=_BOOKS_SECONDS)
                usage = await self._client.billing.usage()
                self._say(
                    f"{usage.segments:,} of {usage.included_segments:,} segments used, "
                    f"{usage.cost_cents / 100:.2f} {usage.currency} to pay"
                )
        except DemoFailed as late:
            self._say(f"[red]{escape(str(late))}[/]")
        self._console.print()
        return sections

    async def _held(self, leaver: Person, message_id: UUID) -> Section:
        """What the second broadcast did to the one who said STOP."""
        texts = await self._carrier.texts_of(self._number)
        copies = await everything(self._client.messages.recipients(message_id, status="suppressed"))
        ending = LUNCH.rpartition("}}")[2]
        reached = sum(text.recipient == leaver.phone and (text.text or "").endswith(ending) for text in texts)
        left_out = sum(copy.phone == leaver.phone for copy in copies)
        lines = (
            exact("left out of the second broadcast", file=1, copies=left_out),
            exact("texts of it that reached them", file=0, carrier=reached),
        )
        return Section(f"{leaver.name}, who said STOP", lines)

    async def _ready(self, church_id: UUID) -> bool | None:
        return (await self._client.churches.settings(church_id)).ready or None

    async def _branch(self, name: str) -> UUID:
        return (await self._client.branches.create(BranchRequest(name=name))).id

    async def _group(self, name: str) -> UUID:
        return (await self._client.groups.create(GroupRequest(name=name))).id

    async def _unread(self, guest: Person) -> Conversation | None:
        async for conversation in self._client.conversations.list():
            last = conversation.last_message
            if conversation.phone == guest.phone and conversation.unread_count and last and last.content == QUESTION:
                return conversation
        return None

    async def _delivered(self, conversation_id: UUID, reply_id: UUID) -> bool | None:
        thread = await self._client.conversations.get(conversation_id)
        return any(text.id == reply_id and text.status == "delivered" for text in thread.messages.data) or None

    async def _opted_out(self, leaver: Person) -> bool | None:
        found = await everything(self._client.members.list(search=leaver.phone))
        return (bool(found) and not any(member.opt_in_sms for member in found)) or None

    def _show(self, preview: MessagePreview) -> None:
        self._say(f"preview: [italic]{escape(preview.sample)}[/]")
        self._say(
            f"{preview.recipients} numbers, {preview.suppressed} of them left out; "
            f"at most {preview.total_segments} segments"
        )

    @contextmanager
    def _step(self, title: str) -> Iterator[None]:
        began = monotonic()
        self._console.print(f"[bold cyan]▸ {escape(title)}[/]")
        yield
        self._console.print(f"  [green]✓[/] [dim]{monotonic() - began:.1f} s[/]")

    def _say(self, line: str) -> None:
        self._console.print(f"  {line}", soft_wrap=True)

    def _quote(self, who: str, text: str) -> None:
        self._say(f"{escape(who)}: [italic]“{escape(text)}”[/]")


def _church() -> RegisterRequest:
    """A church that is not there yet."""
    mark = secrets.token_hex(3)
    return RegisterRequest(
        church_name=f"Grace Chapel {mark}",
        first_name="Ruth",
        last_name="Miller",
        email=f"ruth-{mark}@grace.example",
        password=secrets.token_urlsafe(24),
        timezone="America/Chicago",
    )
