"""Encryption and token keys changed under load."""

import asyncio
import base64
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
import pytest

from koinonia import clock
from koinonia.api.messages import Message
from koinonia.testing.fixtures import wait_until

from .caller import Caller
from .church import Church, people
from .ciphers import connected, in_every_column, tables
from .platform import Platform

RELOADS = int(os.environ.get("RELOADS", "3"))
"""Under load, the three that change keys among them; `make chaos` asks for 100."""
PACE_SECONDS = 0.2 if RELOADS > 3 else 0.6
"""Between two acts of a kind; in `make test` the other tests want the cores, too."""
ENCRYPTION, TOKENS = "KOINONIA_ENCRYPTION_KEYS", "KOINONIA_TOKEN_KEYS"
UNREADABLE = ("CiphertextInvalid", "unreadable", "cannot be decrypted", "decryption", "InvalidTag")


@pytest.mark.native("`koinonia up` reloads its processes; containers are replaced by whoever runs them")
@pytest.mark.timeout(540 + 120 * RELOADS)
async def test_keys_are_changed_under_load_without_an_error(new_church: Callable[[], Awaitable[Church]]) -> None:
    church, quiet = await new_church(), await new_church()
    platform = church.platform
    old = read_keys(platform)
    new = {name: f"rotated-{secrets.token_hex(3)}:{new_key()}" for name in (ENCRYPTION, TOKENS)}
    late = await send_with_receipts_held_back(church)
    log_sizes = {name: path.stat().st_size for name, path in platform.logs().items()}

    async with in_every_column(quiet, old[ENCRYPTION], new[ENCRYPTION]), load(church) as busy:
        await busy.has_done_something_of_each()
        await change_keys(platform, {name: f"{old[name]},{new[name]}" for name in new})
        await busy.has_done_something_of_each()
        await change_keys(platform, {name: f"{new[name]},{old[name]}" for name in new})
        await busy.has_done_something_of_each()
        status, said = await platform.command("keys", "rotate")
        assert status == 0, said
        assert f"nothing is under {id_of(old[ENCRYPTION])} any more" in said
        await change_keys(platform, {ENCRYPTION: new[ENCRYPTION], TOKENS: f"{new[TOKENS]},{old[TOKENS]}"})
        await busy.has_done_something_of_each()
        for number in range(4, RELOADS + 1):
            await reload(platform)
            await busy.has_done_something_of_each()
            assert not busy.failures, "\n".join([f"by the end of reload {number}:", *busy.failures])
    assert not busy.failures, "\n".join(busy.failures)

    for message in busy.sent:
        done = await church.client.messages.wait_until_completed(message.id, timeout_seconds=120)
        assert done.counts.delivered == done.total_recipients
        await church.agrees(message.id)
    await busy.every_inbound_text_is_in_the_inbox_once()

    # What was signed before is still read: receipts of a text that went out under the old token key, and the session.
    await platform.carrier.deliver_pending()
    done = await church.client.messages.wait_until_completed(late.id, timeout_seconds=60)
    assert done.counts.delivered == done.total_recipients

    assert await still_under(platform, id_of(old[ENCRYPTION])) == {}
    status, said = await platform.command("keys", "rotate")
    assert (status, sum(int(line.split()[1]) for line in said.splitlines() if "re-encrypted" in line)) == (0, 0), said
    assert told_since(platform, log_sizes) == []
    assert await platform.dead_letters() == "no dead letters"


# Keys, as an operator handles them.


def new_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def id_of(entry: str) -> str:
    """The id of the first key."""
    return entry.partition(":")[0]


def read_keys(platform: Platform) -> dict[str, str]:
    """The variables of ``keys.env``."""
    lines = platform.state.keys.read_text().splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines if not line.startswith("#"))}


async def change_keys(platform: Platform, values: Mapping[str, str]) -> None:
    """Write them to ``keys.env`` and reload."""
    lines = [f"{name}={value}" for name, value in {**read_keys(platform), **values}.items()]
    platform.state.keys.write_text("\n".join(lines) + "\n")
    await reload(platform)


async def reload(platform: Platform) -> None:
    """Every process is another one after, the servers are the same."""
    before = platform.state.read_processes()
    status, said = await platform.command("reload")
    assert status == 0, said
    after = platform.state.read_processes()
    assert after.keys() == before.keys()
    assert all(process.pid is not None for process in after.values())
    same = {name for name in after if after[name].pid == before[name].pid}
    assert same == {"postgres", "rabbitmq", "redis", "carrier"} & after.keys()
    assert len(said.splitlines()) == len(after) - len(same)


async def still_under(platform: Platform, key_id: str) -> dict[str, int]:
    """How many rows name this key, by column: bytes compared by the database itself."""
    found = {}
    async with connected(platform) as database:
        for table in await tables(database):
            for column in table.columns:
                query = f"SELECT count(*) FROM {table} WHERE position($1::bytea IN {column}) > 0"
                found[f"{table}.{column}"] = await database.fetchval(query, key_id.encode())
    return {name: count for name, count in found.items() if count}


def told_since(platform: Platform, sizes: Mapping[str, int]) -> list[str]:
    """Every line that the services' logs have got since of an error, or of anything that could not be read."""
    told = []
    for name, path in platform.logs().items():
        if name in {"postgres", "rabbitmq", "redis", "carrier"}:
            continue
        with path.open("rb") as log:
            log.seek(sizes.get(name, 0))
            lines = log.read().decode(errors="replace").splitlines()
        told += [line for line in lines if is_error(line) or any(word in line for word in UNREADABLE)]
    return told


def is_error(line: str) -> bool:
    """Whether a line of a log is of an error; one that is no JSON, as a traceback's, is."""
    try:
        return msgspec.json.decode(line)["level"] in {"error", "critical"}
    except (msgspec.DecodeError, KeyError, TypeError):
        return line != ""


async def send_with_receipts_held_back(church: Church) -> Message:
    """A broadcast to five that is with the carrier, and whose receipts wait there."""
    added = await church.add(5)
    await church.platform.carrier.order("receipt_late", [person.phone for person in added])
    message = await church.send("Before.")

    async def is_sent() -> bool:
        return (await church.client.messages.get(message.id)).counts.sent == len(added)

    await wait_until(is_sent, seconds=30, what="the texts whose receipts are held back")
    return message


class Load:
    """A church that is used in every way at once, by raw HTTP: no request is ever tried again."""

    def __init__(self, church: Church, audience: list[UUID], caller: Caller, reader: Caller) -> None:
        self.church = church
        self._audience = [str(each) for each in audience]
        self.failures: list[str] = []
        self.sent: list[Message] = []
        self.texted: Counter[str] = Counter()
        self._caller = caller
        self._reader = reader
        self._done: Counter[str] = Counter()
        self._stopping = asyncio.Event()
        self._writers = people(3)

    def begin(self, group: asyncio.TaskGroup) -> None:
        for act in self._acts():
            group.create_task(self._keep_on(act))

    def _acts(self) -> list[Callable[[], Awaitable[None]]]:
        return [
            *(self.read, self.write, self.import_members, self.broadcast),
            *(self.text_in, self.reply, self.refresh),
        ]

    def end(self) -> None:
        self._stopping.set()

    async def has_done_something_of_each(self) -> None:
        """Wait until every kind of work has been done twice since."""
        before = Counter(self._done)

        def is_done() -> bool:
            grown = self._done - before
            return len(grown) == len(self._acts()) and min(grown.values()) >= 2

        await wait_until(is_done, seconds=120, what="work of each kind")

    async def read(self) -> None:
        for path in ("/api/members?limit=20", "/api/conversations", "/api/auth/me"):
            await self._ask(self._reader, "GET", path)
        if len(self.sent) > 1:  # the last may not be with delivery yet
            await self._ask(self._reader, "GET", f"/api/messages/{self.sent[-2].id}/recipients")

    async def write(self) -> None:
        (person,) = people(1)
        body = {"firstName": person.first_name, "lastName": person.last_name, "phone": person.phone}
        made = await self._ask(self._caller, "POST", "/api/members", {**body, "email": person.email})
        changed = await self._ask(self._caller, "PATCH", f"/api/members/{made['id']}", {"firstName": "Joanna"})
        assert (changed["phone"], changed["email"]) == (person.phone, person.email)

    async def import_members(self) -> None:
        rows = [{**person.row(), "optInSms": False} for person in people(5)]
        result = await self._ask(self._caller, "POST", "/api/members/import", {"members": rows})
        assert (result["created"], result["errors"]) == (5, [])

    async def broadcast(self) -> None:
        """To the same people, the next as soon as the last is through."""
        body = {"content": f"Broadcast {len(self.sent)}.", "targetType": "individual", "targetIds": self._audience}
        made = await self._ask(self._caller, "POST", "/api/messages/send", body)
        message = msgspec.convert(made["message"], Message)
        self.sent.append(message)
        for _ in range(600):
            if (await self._ask(self._reader, "GET", f"/api/messages/{message.id}"))["completedAt"]:
                return
            await asyncio.sleep(0.1)
        raise AssertionError("a broadcast is not through after a minute")

    async def text_in(self) -> None:
        person = self._writers[self._done["text_in"] % len(self._writers)]
        text = f"Amen {self._done['text_in']}"
        await self.church.platform.carrier.person_texts(person.phone, self.church.number, text)
        self.texted[text] += 1

    async def reply(self) -> None:
        conversations = (await self._ask(self._reader, "GET", "/api/conversations"))["data"]
        if conversations:
            path = f"/api/conversations/{conversations[0]['id']}/reply"
            await self._ask(self._caller, "POST", path, {"content": "Thank you."})

    async def refresh(self) -> None:
        """Get each session the tokens that it goes on with; an access token lives ten minutes."""
        for caller in (self._caller, self._reader):
            await self._ask(caller, "POST", "/api/auth/refresh")

    async def every_inbound_text_is_in_the_inbox_once(self) -> None:
        assert self.texted

        async def inbox() -> Counter[str]:
            found: Counter[str] = Counter()
            client = self.church.client.conversations
            async for conversation in client.list():
                assert conversation.phone in {person.phone for person in self._writers}
                cursor: str | None = None
                while True:
                    page = (await client.get(conversation.id, limit=100, cursor=cursor)).messages
                    found.update(message.content for message in page.data if message.direction == "inbound")
                    if (cursor := page.next_cursor) is None:
                        break
            return found

        async def is_there() -> bool:
            return (await inbox()).keys() >= self.texted.keys()

        await wait_until(is_there, seconds=60, what="every inbound text")
        assert await inbox() == self.texted

    async def _keep_on(self, act: Callable[[], Awaitable[None]]) -> None:
        while not self._stopping.is_set():
            try:
                await act()
            except Exception as error:
                self.failures.append(f"{clock.now():%H:%M:%S} {act.__name__}: {error!r}")
            self._done[act.__name__] += 1
            await asyncio.sleep(PACE_SECONDS)

    async def _ask(self, caller: Caller, method: str, path: str, body: object = None) -> dict[str, Any]:
        encoded = None if body is None else msgspec.json.encode(body)
        answer = await caller.send(method, path, encoded)
        assert answer.status < 300, (method, path, answer.status, answer.body[:300])
        found: dict[str, Any] = answer.json() if answer.body else {}
        return found


@asynccontextmanager
async def load(church: Church) -> AsyncIterator[Load]:
    """Use a church in every way until the context is left; its people have been imported before."""
    phones = {person.phone for person in await church.add(40)}
    audience = [member.id async for member in church.client.members.list() if member.phone in phones]
    async with AsyncExitStack() as stack:
        caller, reader = [await stack.enter_async_context(Caller(church)) for _ in range(2)]
        busy = Load(church, audience, caller, reader)
        async with asyncio.TaskGroup() as group:
            busy.begin(group)
            try:
                yield busy
            finally:
                busy.end()
