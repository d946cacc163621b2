"""An owner's browser without the client's good manners: any bytes to any route."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
import msgspec
from yarl import URL

from .church import PASSWORD, Church


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]  # names in any case
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        """The code of an error of ours; empty for anything else."""
        try:
            return str(self.json()["error"]["code"])
        except (msgspec.DecodeError, KeyError, TypeError):
            return ""


class Caller:
    """Logged in as a church's owner, with a session of its own; at the first gateway, or at ``url``."""

    def __init__(self, church: Church, url: str | None = None) -> None:
        self._church = church
        self._url = url or church.platform.url
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self._session._retry_connection = False  # aiohttp would hide a connection that breaks
        self._csrf = ""

    async def __aenter__(self) -> Self:
        await self.log_in()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._session.close()

    async def log_in(self) -> None:
        """Begin a session."""
        self._session.cookie_jar.clear()
        credentials = {"email": self._church.email, "password": PASSWORD}
        answer = await self.send("POST", "/api/auth/login", msgspec.json.encode(credentials))
        assert answer.status == 200, answer
        await self.take_csrf()

    async def take_csrf(self) -> None:
        """Show a new CSRF token from now on, of the session that there is."""
        self._csrf = (await self.send("GET", "/api/csrf-token")).json()["csrfToken"]

    async def send(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send this as it is; ``path`` is not encoded any further."""
        given = {"Content-Type": "application/json", "X-CSRF-Token": self._csrf, **(headers or {})}
        url = URL(self._url + path, encoded=True)
        data = io.BytesIO(body) if body is not None else None
        async with self._session.request(method, url, data=data, headers=given, allow_redirects=False) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def send_json(self, method: str, path: str, body: object) -> Answer:
        """Send a JSON body."""
        return await self.send(method, path, msgspec.json.encode(body))
