"""Whether a text is answered by itself, and with what words.

Sources: 47 CFR 64.1200(a)(12), one confirmation of an opt-out, without marketing, within five minutes; CTIA Messaging
Principles and Best Practices: what a help text tells.
"""

from datetime import timedelta
from typing import Final

from koinonia.sms.keywords import Keyword

MOST_PER_HOUR: Final = 5  # to one number
CONFIRM_WITHIN: Final = timedelta(minutes=5)

_CONTENTS: Final[dict[Keyword, str]] = {
    "stop": "You are opted out of texts from {church}. No more messages. Reply START to get them again.",
    "start": "You get texts from {church} again. Msg & data rates may apply. Reply HELP for help, STOP to opt out.",
    "help": (
        "{church}: texts for our people, as often as there is news. Msg & data rates may apply. "
        "Reply STOP to opt out. To reach us, reply to this text."
    ),
}


def is_due(keyword: Keyword, *, changed: bool, answered_by_carrier: bool, age: timedelta) -> bool:
    """Whether a text is to be answered: help always, the others once, when they have changed the state.

    Not where the carrier did; and an opt-out, after five minutes, no more: it would be a text that nobody wants.
    """
    if answered_by_carrier:
        return False
    if keyword == "help":
        return True
    return changed and (keyword == "start" or age <= CONFIRM_WITHIN)


def content(purpose: Keyword, church: str) -> str:
    """The words of a reply; ``church`` is a name, taken as it is."""
    return _CONTENTS[purpose].replace("{church}", church)
