"""The public HTTP contract: a struct for every request and response, and an ``Endpoint`` for every route.

Services answer by it, the gateway forwards by it, the client calls by it and the API page is made from it. One module
per noun; a route that is listed is implemented.
"""

from koinonia.api import (
    admins,
    analytics,
    audit,
    auth,
    billing,
    branches,
    churches,
    conversations,
    docs,
    groups,
    health,
    members,
    messages,
    mfa,
    numbers,
    own_phones,
    passwords,
    recurring,
    sessions,
    templates,
    webhooks,
)
from koinonia.api.common import ErrorBody, ErrorResponse, NoQuery, Page, PageQuery, Query, Request, Response, Role
from koinonia.api.endpoint import EVERYONE, MANAGERS, SENDERS, Endpoint, Owner

ENDPOINTS: tuple[Endpoint, ...] = (
    *auth.ENDPOINTS,
    *admins.ENDPOINTS,
    *mfa.ENDPOINTS,
    *passwords.ENDPOINTS,
    *sessions.ENDPOINTS,
    *own_phones.ENDPOINTS,
    *churches.ENDPOINTS,
    *branches.ENDPOINTS,
    *groups.ENDPOINTS,
    *members.ENDPOINTS,
    *templates.ENDPOINTS,
    *messages.ENDPOINTS,
    *recurring.ENDPOINTS,
    *conversations.ENDPOINTS,
    *billing.ENDPOINTS,
    *numbers.ENDPOINTS,
    *analytics.ENDPOINTS,
    *audit.ENDPOINTS,
    *webhooks.ENDPOINTS,
    *docs.ENDPOINTS,
)


def owned_by(owner: Owner) -> tuple[Endpoint, ...]:
    """The routes that a service must answer."""
    return tuple(endpoint for endpoint in ENDPOINTS if endpoint.owner == owner)


__all__ = [
    "ENDPOINTS",
    "EVERYONE",
    "MANAGERS",
    "SENDERS",
    "Endpoint",
    "ErrorBody",
    "ErrorResponse",
    "NoQuery",
    "Owner",
    "Page",
    "PageQuery",
    "Query",
    "Request",
    "Response",
    "Role",
    "admins",
    "analytics",
    "audit",
    "auth",
    "billing",
    "branches",
    "churches",
    "conversations",
    "docs",
    "groups",
    "health",
    "members",
    "messages",
    "mfa",
    "numbers",
    "own_phones",
    "owned_by",
    "passwords",
    "sessions",
    "templates",
    "webhooks",
]
