"""The web layer of every service: endpoints of ``koinonia.api`` in, checked calls out.

A handler is ``async def send(call: Call[SendRequest, NoQuery], tx: Transaction) -> Message``. Everything around it —
identity, roles, decoding, limits, the tenant transaction, idempotency keys, errors, logs — is the door's.
"""

from koinonia.web.app import build_app, build_operators_app
from koinonia.web.bodies import pieces as body_pieces
from koinonia.web.bodies import read as read_body
from koinonia.web.call import Answer, Call, Cookie, Handler, Raw
from koinonia.web.door import Identify, check_caller, signed_identity
from koinonia.web.health import Probe
from koinonia.web.observing import CALLER, DRAINING, EXTRA_HEADERS, REQUEST_ID
from koinonia.web.server import Server

__all__ = [
    "CALLER",
    "DRAINING",
    "EXTRA_HEADERS",
    "REQUEST_ID",
    "Answer",
    "Call",
    "Cookie",
    "Handler",
    "Identify",
    "Probe",
    "Raw",
    "Server",
    "body_pieces",
    "build_app",
    "build_operators_app",
    "check_caller",
    "read_body",
    "signed_identity",
]
