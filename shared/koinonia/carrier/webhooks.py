"""The carrier's webhooks: their signature, and what they say.

Signed is ``<timestamp>|<raw body>`` with ed25519; only bytes that were verified are parsed. The query of the called URL
is not covered by the signature, so a recipient's token and trace are read from the body (`WebhookEvent.token`,
`WebhookEvent.traceparent`).
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from koinonia import clock
from koinonia.carrier.contract import CarrierStatus, token_of, traceparent_of
from koinonia.carrier.wire import WireError, WireMessage
from koinonia.secret import Secret
from koinonia.webhooks import SignatureInvalid, decoded, is_fresh

SIGNATURE_HEADER = "telnyx-signature-ed25519"
TIMESTAMP_HEADER = "telnyx-timestamp"


class WebhookEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the carrier. A repeat has the same ``id``."""

    id: str
    event_type: str  # message.sent, message.finalized, message.received, or one that we do not know
    occurred_at: datetime | None = None
    message: WireMessage | None = None  # None for an event that is not about a message
    attempt: int = 1
    delivered_to: str | None = None  # the URL that was called, as the signed body says

    @property
    def status(self) -> CarrierStatus:
        """How far the message has come."""
        return self.message.status if self.message is not None else CarrierStatus.UNKNOWN

    @property
    def token(self) -> str | None:
        """The recipient's token out of the signed body."""
        if self.message is None:
            return None
        return token_of(self.message.webhook_url) or token_of(self.delivered_to)

    @property
    def traceparent(self) -> str | None:
        """The trace of the text that this is about, out of the signed body."""
        if self.message is None:
            return None
        return traceparent_of(self.message.webhook_url) or traceparent_of(self.delivered_to)

    @property
    def error(self) -> WireError | None:
        """Why it failed."""
        return self.message.errors[0] if self.message is not None and self.message.errors else None


def parse_public_keys(text: str) -> list[VerifyKey]:
    """Read keys with commas between, several while one is changed.

    Raises:
        ValueError: there is none, or one is not 32 bytes in base64.
    """
    keys = [_parse_public_key(part.strip()) for part in text.split(",") if part.strip()]
    if not keys:
        raise ValueError("there is no key")
    return keys


class Verifier:
    """Checks signatures against the carrier's public keys: any of them is good.

    Args:
        public_keys: in base64, or a secret that lists them with commas between and is asked at each signature.
    """

    def __init__(self, public_keys: Sequence[str] | Secret) -> None:
        """Raises ValueError for a key that is not 32 bytes in base64."""
        self._secret = public_keys if isinstance(public_keys, Secret) else None
        self._text = self._secret.value if self._secret is not None else ""
        self._parsed = (
            parse_public_keys(public_keys.value)
            if isinstance(public_keys, Secret)
            else [_parse_public_key(key) for key in public_keys]
        )

    def verify(self, body: bytes, *, signature: str | None, timestamp: str | None) -> None:
        """Check the raw body against the two headers.

        Raises:
            SignatureInvalid: no key signed it, or its time is more than 300 s from ours.
        """
        if signature is None or timestamp is None or not is_fresh(timestamp):
            raise SignatureInvalid
        try:
            signed = base64.b64decode(signature, validate=True)
        except (binascii.Error, ValueError):
            raise SignatureInvalid from None
        message = timestamp.encode() + b"|" + body
        if len(signed) != 64 or not any(_matches(key, message, signed) for key in self._keys()):
            raise SignatureInvalid

    def _keys(self) -> list[VerifyKey]:
        if self._secret is not None and (text := self._secret.value) != self._text:
            self._text, self._parsed = text, parse_public_keys(text)
        return self._parsed


class Signer:
    """Signs as the carrier does: the simulated carrier and tests use it."""

    def __init__(self, seed: bytes | None = None) -> None:
        """``seed`` is 32 bytes; without one, a key of chance."""
        self._key = SigningKey(seed) if seed is not None else SigningKey.generate()

    @property
    def public_key(self) -> str:
        """The public key, in base64."""
        return base64.b64encode(bytes(self._key.verify_key)).decode()

    def headers(self, body: bytes) -> dict[str, str]:
        """The two headers for a body that goes out now."""
        timestamp = str(int(clock.now().timestamp()))
        signature = self._key.sign(timestamp.encode() + b"|" + body).signature
        return {SIGNATURE_HEADER: base64.b64encode(signature).decode(), TIMESTAMP_HEADER: timestamp}


class _Data(msgspec.Struct):
    id: str
    event_type: str = ""
    occurred_at: datetime | None = None
    payload: msgspec.Raw = msgspec.Raw()


class _Meta(msgspec.Struct):
    attempt: int = 1
    delivered_to: str | None = None


class _Webhook(msgspec.Struct):
    data: _Data
    meta: _Meta | None = None


_WEBHOOK = msgspec.json.Decoder(_Webhook)
_MESSAGE = msgspec.json.Decoder(WireMessage)


def parse(body: bytes) -> WebhookEvent:
    """Read a verified body.

    Raises:
        WebhookUnreadable: it has not the documented shape. Its details name the place, never a value.
    """
    webhook = decoded(_WEBHOOK, body)
    data = webhook.data
    about_a_message = data.event_type.startswith("message.") and bool(bytes(data.payload))
    message = decoded(_MESSAGE, data.payload, "data.payload") if about_a_message else None
    return WebhookEvent(
        id=data.id,
        event_type=data.event_type,
        occurred_at=data.occurred_at,
        message=message,
        attempt=webhook.meta.attempt if webhook.meta is not None else 1,
        delivered_to=webhook.meta.delivered_to if webhook.meta is not None else None,
    )


def _parse_public_key(text: str) -> VerifyKey:
    return VerifyKey(base64.b64decode(text, validate=True))


def _matches(key: VerifyKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(message, signature)
    except BadSignatureError:
        return False
    return True
