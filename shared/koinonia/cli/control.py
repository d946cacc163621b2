"""How a running ``koinonia up`` is asked for something: over a socket in its state directory.

Its owner alone enters that. A request is a line with its name. The answer is a line of JSON for each thing told, and
one for the end.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import click
import msgspec

from koinonia.cli.main import CommandFailed
from koinonia.security.keyring import KeyringInvalid
from koinonia.settings import SettingsError

RELOAD = "reload"
NEWEST_KEY = "newest key"

Answers = Callable[[], AsyncIterator[str]]


class NobodyAnswers(CommandFailed):
    """None runs there: there is no socket, or a killed one left it."""


class _Line(msgspec.Struct, omit_defaults=True):
    told: str | None = None
    failed: str | None = None  # the end: it did not work
    done: bool = False  # the end: it did


@asynccontextmanager
async def answering(path: Path, requests: Mapping[str, Answers]) -> AsyncIterator[None]:
    """Answer these requests, one at a time, until the context is left, which cuts off the one under way."""
    busy = asyncio.Lock()
    tasks: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _answer(requests, busy, reader, writer)
        finally:
            writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(answer(reader, writer), name="control")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    path.unlink(missing_ok=True)  # of one that was killed; the directory's lock keeps a living one out
    with _short(path) as name:
        server = await asyncio.start_unix_server(connected, name)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(
    requests: Mapping[str, Answers], busy: asyncio.Lock, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    def write(line: _Line) -> None:
        if not writer.is_closing():  # who asked may have left; what was begun is finished
            writer.write(msgspec.json.encode(line) + b"\n")

    name = (await reader.readline()).decode(errors="replace").strip()
    if name not in requests:
        return write(_Line(failed=f"the running `koinonia up` does not know {name!r}"))
    if busy.locked():
        return write(_Line(failed="another command is under way there; try again when it has ended"))
    async with busy:
        try:
            async for told in requests[name]():
                write(_Line(told=told))
        except (click.ClickException, KeyringInvalid, SettingsError, OSError) as error:
            text = error.format_message() if isinstance(error, click.ClickException) else str(error)
            return write(_Line(failed=text))
    return write(_Line(done=True))


async def ask(path: Path, request: str) -> AsyncIterator[str]:
    """Ask, and hear what is told.

    Raises:
        NobodyAnswers: none runs there.
        CommandFailed: it cannot be asked, or could not do it.
    """
    try:
        with _short(path) as name:
            reader, writer = await asyncio.open_unix_connection(name)
    except OSError as error:
        gone = isinstance(error, FileNotFoundError | ConnectionRefusedError)
        failure = NobodyAnswers if gone else CommandFailed
        raise failure(f"no `koinonia up` runs on {path.parent}, or it is not ready yet") from None
    try:
        writer.write(f"{request}\n".encode())
        async for line in reader:
            said = msgspec.json.decode(line, type=_Line)
            if said.failed is not None:
                raise CommandFailed(said.failed)
            if said.done:
                return
            yield said.told or ""
    except ConnectionError:
        pass
    finally:
        writer.close()
    raise CommandFailed("the `koinonia up` that was asked was stopped before it was done")


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """The same path in few characters: the address of a socket has room for a hundred."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
