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
        roles: who may call it, of sessions and API keys alike. This is the one table of who may do what: doors and the
            API page are made from it.
        people_only: no API key may call it, whatever its role.
        also: other statuses of the same answer, with what each says.
        before_mfa: whether a person may call it without the second factor, where that is required.
        for_tests: of a request that changes something: whether a test key may send it, as what it does is a test then.
            A test key changes nothing else.
        with_own_phone: whether the gateway tells the owner the phone that the caller has confirmed.
        idempotent: whether ``Idempotency-Key`` is honoured: by whatever changes something, but where the answer is a
            secret or a cookie that nobody stores (``/api/auth/``, ``/api/admin/mfa/``).
        consumes: accepted content types of the body; the first is the usual one.
        produces: content type of the answer.
        raw_body: the body is taken as it came (a signed webhook), bounded but not decoded.
        raw_example: such a body, for the API page.
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
    also: tuple[tuple[int, str], ...] = ()
    access: Access = "principal"
    roles: frozenset[Role] = EVERYONE
    before_mfa: bool = False
    for_tests: bool = False
    people_only: bool = False
    with_own_phone: bool = False
    idempotent: bool = False
    body_limit: int = MEBIBYTE
    consumes: tuple[str, ...] = (JSON,)
    produces: str = JSON
    raw_body: bool = False
    raw_example: Any = None
    extra_errors: tuple[str, ...] = ()
    stream_item: type[Any] | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the ids in the path, in order."""
        return tuple(_PARAMETER.findall(self.path))

    @property
    def opens_to_tests(self) -> bool:
        """Whether a test key may ask: for whatever it can read, and for what is then a test."""
        return self.method == "GET" or self.for_tests

    @property
    def takes_body(self) -> bool:
        """Whether a body is read at all."""
        return self.request is not None or self.raw_body

    @property
    def callers(self) -> str:
        """Who may call it, in a sentence."""
        if self.access == "public":
            return "Needs no login."
        kinds = "people (not API keys)" if self.people_only else "people and API keys"
        if self.roles == EVERYONE:
            return f"For {kinds} of every role."
        return f"For {kinds} with one of the roles {', '.join(role for role in get_args(Role) if role in self.roles)}."

    def may_call(self, role: Role, *, is_person: bool) -> bool:
        """Whether somebody who is known may call it."""
        return role in self.roles and (is_person or not self.people_only)

    def url(self, **ids: object) -> str:
        """The path with its ids filled in."""
        return self.path.format_map({name: str(value) for name, value in ids.items()})
