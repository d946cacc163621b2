"""What Telnyx's error codes mean for us: one table, read when a call is answered and when a receipt comes.

Codes count, not HTTP statuses: those differ between Telnyx's own pages. A code that is not here is final for the one
text, and is counted and shown with its number.

Source: developers.telnyx.com, docs/messaging/messages/error-codes and development/api-fundamentals/api-errors.
"""

from typing import Literal

import msgspec

from koinonia.carrier.contract import Refused, Rejected, Scope

Remedy = Literal["never", "later", "change", "wait"]
"""What helps a church: nothing, the same text another time, another text or rate, or waiting."""

STOP_CODE = "40300"
STOP_TITLE = "Blocked due to STOP message"
QUEUE_FULL_WAIT_SECONDS = 60


class Meaning(msgspec.Struct, frozen=True):
    """What one code means; ``sentence`` is what the church reads."""

    outcome: Literal["refused", "rejected"]
    sentence: str
    scope: Scope = "call"
    remedy: Remedy = "never"
    retry_after_seconds: int | None = None


def _final(sentence: str, remedy: Remedy = "never") -> Meaning:
    return Meaning("rejected", sentence, remedy=remedy)


def _hold(scope: Scope, sentence: str) -> Meaning:
    return Meaning("refused", sentence, scope=scope, remedy="wait")


_BAD_KEY = _hold("account", "The platform's access to the carrier does not work; sending waits.")
_OUR_BUG = _final("The carrier could not read our request. This is our mistake; support has been told.")
_BAD_NUMBER = _final("This is not a phone number that can receive texts.")
_NOT_ON_PROFILE = _hold("number", "Your sending number is not linked to your account at the carrier; sending waits.")
_SENDER_SETUP = _hold("number", "Your sending number is not set up at the carrier; sending waits.")
_PROFILE_SETUP = _hold("church", "Your account at the carrier is not enabled for texting; sending waits.")
_SENDER_PENDING = _hold("number", "Your sending number is not cleared for texting yet; sending waits.")
_TOO_FAST = _final("The recipient's carrier refused it because too many texts were sent.", "change")

MEANINGS: dict[str, Meaning] = {
    # The call could not be made.
    "10009": _BAD_KEY,
    "10010": _BAD_KEY,
    "10011": Meaning("refused", "The carrier is busy; it is tried again.", remedy="wait"),
    "10007": Meaning("refused", "The carrier has trouble; it is tried again.", remedy="wait"),
    "10037": Meaning("refused", "The carrier has trouble; it is tried again.", remedy="wait"),
    "10004": _OUR_BUG,
    "10015": _OUR_BUG,
    "10023": _OUR_BUG,
    "10026": _OUR_BUG,
    # The recipient.
    "10002": _BAD_NUMBER,
    "10016": _BAD_NUMBER,
    "40001": _final("This number is a landline or cannot be reached by text."),
    "40003": _final("The recipient's carrier blocks texts to this number."),
    "40012": _BAD_NUMBER,
    "40309": _final("Texts to this country are not enabled for your account.", "change"),
    "40310": _BAD_NUMBER,
    # The sender and its profile: a person must put it right, and then the rows go out.
    "40305": _NOT_ON_PROFILE,
    "40306": _SENDER_SETUP,
    "40307": _SENDER_SETUP,
    "40308": _final("Your sending number cannot send pictures.", "change"),
    "40311": _PROFILE_SETUP,
    "40312": _PROFILE_SETUP,
    "40313": _PROFILE_SETUP,
    "40314": _PROFILE_SETUP,
    "40331": _PROFILE_SETUP,
    "40315": _SENDER_PENDING,
    "40320": _SENDER_PENDING,
    "40329": _SENDER_PENDING,
    "40330": _SENDER_PENDING,
    "40321": _hold("church", "None of your numbers can send at the moment; sending waits."),
    "40333": _hold("church", "Your spending limit at the carrier is reached; sending waits."),
    "40318": Meaning(
        "refused",
        "The carrier's queue for your number is full; it is tried again.",
        remedy="wait",
        retry_after_seconds=QUEUE_FULL_WAIT_SECONDS,
    ),
    # The content.
    "40302": _final("The text is too long.", "change"),
    "40304": _final("This mixture of text and pictures cannot be sent.", "change"),
    "40316": _final("The text is empty.", "change"),
    "40317": _final("A picture is too large or cannot be read.", "change"),
    "40322": _final("The carrier does not allow this content.", "change"),
    "40325": _final("The sender's name is not allowed.", "change"),
    "40328": _final("The text is longer than the carrier recommends.", "change"),
    # Told after it was accepted.
    "40002": _final("The recipient's carrier took it for spam.", "change"),
    "40005": _final("It came too late to be delivered.", "change"),
    "40006": _final("The recipient's carrier had a failure.", "later"),
    "40008": _final("It could not be delivered; the phone may be switched off.", "later"),
    "40010": _final("Your sending number is not registered for texting in the US (10DLC)."),
    "40011": _TOO_FAST,
    "40014": _final("It waited too long in the carrier's queue.", "change"),
    "40016": _final("Your daily limit at T-Mobile is reached.", "change"),
    "40017": _TOO_FAST,
    "40018": _final("Your limit at AT&T is reached.", "change"),
    "40020": _final("The recipient's carrier refuses texts of this number for a day.", "wait"),
    STOP_CODE: _final("The carrier does not allow this text."),  # with another title than STOP: see `is_stop`
}

_STOPPED = _final("This person has opted out by STOP.")
_REVOKED_KEY_PREFIX = "20"
_UNKNOWN = _final("The carrier refused it.")


def is_stop(code: str, title: str) -> bool:
    """Whether the person has opted out. The code alone stands for other things on three of Telnyx's pages."""
    return code == STOP_CODE and title.strip().rstrip(".").casefold() == STOP_TITLE.casefold()


def is_known(code: str) -> bool:
    """Whether the table has the code."""
    return code in MEANINGS or _is_revoked_key(code)


def meaning(code: str, title: str = "") -> Meaning:
    """What a code means, of an answer or of a receipt; an unknown one is final and says its number."""
    if is_stop(code, title):
        return _STOPPED
    if _is_revoked_key(code):
        return _BAD_KEY
    return MEANINGS.get(code, _UNKNOWN)


def error_of(code: str, title: str, retry_after_seconds: int | None = None) -> Refused | Rejected:
    """The error that ends a call whose answer is certain."""
    known = meaning(code, title)
    if known.outcome == "refused":
        wait = retry_after_seconds if retry_after_seconds is not None else known.retry_after_seconds
        return Refused(known.sentence, carrier_code=code, retry_after_seconds=wait, scope=known.scope)
    sentence = known.sentence if known is not _UNKNOWN else f"The carrier refused it (code {code})."
    return Rejected(sentence, carrier_code=code, opted_out=is_stop(code, title))


def too_fast(retry_after_seconds: int | None) -> Refused:
    """The error for HTTP 429 without a code that we know."""
    sentence = "The carrier asks to go slower; it is tried again."
    return Refused(sentence, carrier_code="429", retry_after_seconds=retry_after_seconds)


def out_of_credit() -> Refused:
    """The error for HTTP 402: the account at the carrier has no balance."""
    sentence = "The platform's account at the carrier has no balance; sending waits."
    return Refused(sentence, carrier_code="402", scope="account")


def _is_revoked_key(code: str) -> bool:
    return len(code) == 5 and code.startswith(_REVOKED_KEY_PREFIX)


def not_ours() -> Rejected:
    """The error for a number that is not in the account at the carrier."""
    return Rejected("This number does not belong to the account at the carrier.", carrier_code="404")
