"""A typed client of the public API, as a frontend or a church's program would use it.

async with Client(url) as client:                      # a browser's session
    await client.auth.login(email, password)
    message = await client.messages.send(SendRequest(content="Hello", target_type="all"))
    async for state in client.messages.events(message.id): ...

Client(url, api_key="koi_…")                           # a program
"""

from typing import Self

from koinonia.client import nouns
from koinonia.client.errors import ApiError
from koinonia.client.transport import Transport


class Client:
    """One caller of the platform at ``url``.

    Args:
        api_key: None: a browser's session, which `auth.register` or `auth.login` begins.
        patience_seconds: how long to repeat a request that is safe to repeat while the platform is away.
    """

    def __init__(self, url: str, *, api_key: str | None = None, patience_seconds: float = 0.0) -> None:
        transport = Transport(url, api_key, patience_seconds)
        self.transport = transport
        self.auth = nouns.Auth(transport)
        self.admins = nouns.Admins(transport)
        self.mfa = nouns.Mfa(transport)
        self.own_phone = nouns.OwnPhone(transport)
        self.api_keys = nouns.ApiKeys(transport)
        self.churches = nouns.Churches(transport)
        self.branches = nouns.Branches(transport)
        self.groups = nouns.Groups(transport)
        self.templates = nouns.Templates(transport)
        self.members = nouns.Members(transport)
        self.messages = nouns.Messages(transport)
        self.recurring_messages = nouns.RecurringMessages(transport)
        self.conversations = nouns.Conversations(transport)
        self.billing = nouns.Billing(transport)
        self.analytics = nouns.Analytics(transport)
        self.numbers = nouns.Numbers(transport)
        self.audit = nouns.Audit(transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.transport.close()


__all__ = ["ApiError", "Client"]
