"""What the webhooks of the carrier and of Stripe have in common: how old a signature may be, and how one is refused."""

from typing import TypeVar

import msgspec

from koinonia import clock
from koinonia.errors import AuthenticationFailed, ValidationFailed
from koinonia.validation import WHOLE, field_error

T = TypeVar("T")

TOLERANCE_SECONDS = 300


class SignatureInvalid(AuthenticationFailed):
    """The webhook is not signed by its sender, or not now."""


class WebhookUnreadable(ValidationFailed):
    """The webhook is signed, but its body is not what the sender documents."""


def is_fresh(timestamp: str) -> bool:
    """Whether a signature's Unix time, in seconds, is at most 300 s from ours."""
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        return False
    return abs(clock.now().timestamp() - int(timestamp)) <= TOLERANCE_SECONDS


def decoded(decoder: "msgspec.json.Decoder[T]", content: bytes | msgspec.Raw, place: str = "") -> T:
    """Read a verified body, or the part of it at ``place``.

    Raises:
        WebhookUnreadable: it has not the documented shape. Its details name the place, never a value.
    """
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        raise WebhookUnreadable(details=[field_error(str(error), place)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise WebhookUnreadable.field(place or WHOLE, "Must be JSON") from None
