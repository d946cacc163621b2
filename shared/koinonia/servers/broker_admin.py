"""RabbitMQ's management API: virtual hosts, users, permissions."""

import json
import ssl
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from yarl import URL


class BrokerAdmin:
    """A client of the management API, as an administrator; use it as an async context manager.

    ``?cafile=`` in the URL names the authorities to trust in place of the system's.
    """

    def __init__(self, url: str) -> None:
        address = URL(url)
        self._base = str(address.with_user(None).with_query(None)).rstrip("/")
        self._cafile = address.query.get("cafile")
        self._credentials = aiohttp.encode_basic_auth(address.user or "guest", address.password or "guest")
        self.user = address.user or "guest"

    async def __aenter__(self) -> Self:
        tls = ssl.create_default_context(cafile=self._cafile) if self._cafile else True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls),
            headers={"Authorization": self._credentials},
            timeout=aiohttp.ClientTimeout(total=30),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def version(self) -> str:
        """Return the broker's version."""
        return str((await self._call("GET", "/api/overview"))["rabbitmq_version"])

    async def create_vhost(self, name: str) -> None:
        """Make a virtual host that this administrator may use."""
        await self._call("PUT", f"/api/vhosts/{quote(name, safe='')}", {})
        await self.permit(self.user, name)

    async def delete_vhost(self, name: str) -> None:
        """Delete a virtual host and all in it, if it is there."""
        await self._call("DELETE", f"/api/vhosts/{quote(name, safe='')}")

    async def vhosts(self) -> list[str]:
        """Return the names of all virtual hosts."""
        return [str(vhost["name"]) for vhost in await self._call("GET", "/api/vhosts?columns=name")]

    async def put_user(self, name: str, password: str) -> None:
        """Make a user, or give it this password."""
        await self._call("PUT", f"/api/users/{quote(name, safe='')}", {"password": password, "tags": ""})

    async def permit(
        self, user: str, vhost: str, *, configure: str = ".*", write: str = ".*", read: str = ".*"
    ) -> None:
        """Set what a user may do in a virtual host; each is a regular expression over names."""
        path = f"/api/permissions/{quote(vhost, safe='')}/{quote(user, safe='')}"
        await self._call("PUT", path, {"configure": configure, "write": write, "read": read})

    async def permit_topic(self, user: str, vhost: str, *, exchange: str, write: str) -> None:
        """Set with which routing keys a user may publish to a topic exchange; it binds nothing."""
        path = f"/api/topic-permissions/{quote(vhost, safe='')}/{quote(user, safe='')}"
        await self._call("PUT", path, {"exchange": exchange, "write": write, "read": "^$"})

    async def queue_totals(self, vhost: str) -> dict[str, int | None]:
        """Return the messages in each queue, those in a consumer's hands included; None: no node has them now.

        RabbitMQ counts a quorum queue anew every five seconds.
        """
        # Without its statistics, which lag twice as much, and whose pace an installation may have set otherwise.
        path = f"/api/queues/{quote(vhost, safe='')}?disable_stats=true&enable_queue_totals=true"
        return {str(queue["name"]): queue.get("messages") for queue in await self._call("GET", path)}

    async def _call(self, method: str, path: str, body: dict[str, str] | None = None) -> Any:
        url = URL(self._base + path, encoded=True)
        async with self._session.request(method, url, json=body) as answer:
            if answer.status == 404 and method == "DELETE":
                return None
            answer.raise_for_status()
            text = await answer.text()
            return json.loads(text) if text else None
