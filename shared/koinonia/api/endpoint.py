"""What one route promises: the data that doors, the gateway's forwarding, the client and the API page are made from."""

import re
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from koinonia.api.common import NoQuery, Query, Role

Method = Literal["GET", "POST", "PATCH", "DELETE"]
Owner = Literal["gateway", "messaging", "delivery", "conversation", "billing", "compliance"]
Access = Literal["public", "principal"]

EVERYONE: Final[frozenset[Role]] = frozenset(get_args(Role))
SENDERS: Final[frozenset[Role]] = frozenset({"owner", "admin", "sender"})
MANAGERS: Final[frozenset[Role]] = frozenset({"owner", "admin"})

JSON: Final = "application/json"
KIBIBYTE: Final = 1024
MEBIBYTE: Final = 1024 * KIBIBYTE

_PARAMETER = re.compile(r"{(\w+)}")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Endpoint:
    """One route of the public API. Compared by identity: each is one constant.

    Attributes:
        name: ``noun.verb``, unique; the operation's id in the API page.
        path: with ``{name}`` for each id; every one is a UUID.
        owner: the service that answers; the gateway forwards to it.
        request: the struct of the JSON body; None: no body, or one that ``raw_body`` describes.
        response: the struct (or ``Page[...]``) of the answer; None: no JSON body.
        access: ``public``: no login; ``principal``: a session or an API key whose role is in ``roles``.
        idempotent: whether ``Idempotency-Key`` is honoured.
        consumes: accepted content types of the body; the first is the usual one.
        produces: content type of the answer.
        raw_body: the body is taken as it came (a signed webhook), bounded but not decoded.
        extra_errors: error codes beyond those that follow from the rest.
        stream_item: the struct of each event of a server-sent stream.
    """

    name: str
    method: Method
    path: str
    owner: Owner
    summary: str
    description: str = ""
    request: type[Any] | None = None
    query: type[Query] = NoQuery
    response: Any = None
    status: int = 200
    access: Access = "principal"
    roles: frozenset[Role] = EVERYONE
    idempotent: bool = False
    body_limit: int = MEBIBYTE
    consumes: tuple[str, ...] = (JSON,)
    produces: str = JSON
    raw_body: bool = False
    extra_errors: tuple[str, ...] = ()
    stream_item: type[Any] | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the ids in the path, in order."""
        return tuple(_PARAMETER.findall(self.path))

    @property
    def takes_body(self) -> bool:
        """Whether a body is read at all."""
        return self.request is not None or self.raw_body

    def url(self, **ids: object) -> str:
        """The path with its ids filled in."""
        return self.path.format_map({name: str(value) for name, value in ids.items()})
