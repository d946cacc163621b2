"""What an inbound text asks for: stop, start or help. The one rule that compliance judges by and delivery holds by.

A text counts only as a whole: "Stop. Thank you!" stops, "Don't stop praying" does not. When in doubt it is no keyword,
and a person reads it in the inbox.

Sources: 47 CFR 64.1200(a)(10); CTIA Messaging Principles and Best Practices; the carrier's default keywords.
"""

import re
import unicodedata
from typing import Literal

Keyword = Literal["stop", "start", "help"]

STOP_PHRASES = frozenset(
    {
        # The words of the FCC's rule, of CTIA and of the carrier.
        *("stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit", "revoke", "optout", "opt out"),
        # What people write instead, where it can mean nothing else.
        *("unsubscribe me", "opt me out", "remove me", "stop texting", "stop texting me", "stop messaging me"),
        *("stop sending me texts", "stop sending me messages", "stop texts", "stop messages", "no more texts"),
        *("do not text me", "dont text me", "do not text me again", "dont text me again"),
        *("take me off your list", "take me off this list", "remove me from your list", "remove me from this list"),
    }
)
START_PHRASES = frozenset({"start", "unstop"})  # "yes" answers too many other questions
HELP_PHRASES = frozenset({"help", "info"})

_POLITE_ENDINGS = (
    *("thank you so much", "thank you very much", "thank you", "thanks so much", "thanks a lot", "thanks", "thanx"),
    *("thx", "ty", "please", "pls", "plz", "now", "immediately", "already", "god bless", "bless you"),
)
_POLITE_BEGINNINGS = ("please", "pls", "plz")
_SIGNATURE = re.compile(r"\n\s*(?:sent|get outlook) (?:from|for) [^\n]*\Z", re.IGNORECASE)
_APOSTROPHES = re.compile("['\u2018\u2019\u02bc\u00b4`]")
_NO_WORD = re.compile(r"[\W_]+")

_LONGEST = 200  # characters; a longer text is a message, not a keyword

CARRIER_WORDS: dict[str, Keyword] = {
    **dict.fromkeys(("stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit"), "stop"),
    **dict.fromkeys(("start", "unstop"), "start"),
    "help": "help",
}


def judge(text: str) -> Keyword | None:
    """What a text asks for, if it is nothing but a keyword in any case, with any punctuation, spaces and courtesy."""
    if len(text) > _LONGEST:
        return None
    words = _words(text)
    if words in HELP_PHRASES:
        return "help"
    phrase = _without_courtesy(words)
    if phrase in STOP_PHRASES:
        return "stop"
    return "start" if phrase in START_PHRASES else None


def carrier_answers(text: str) -> Keyword | None:
    """What the carrier itself takes the text for, answering it and blocking or unblocking the number; else None.

    A second confirmation must not be sent then. It matches the whole text, whatever its case.
    """
    return CARRIER_WORDS.get(text.strip().casefold())


def _words(text: str) -> str:
    """The words of a text in lower case, one space between them; what is said several times counts once."""
    plain = unicodedata.normalize("NFKC", _SIGNATURE.sub("", text)).casefold()
    visible = "".join(character for character in plain if unicodedata.category(character) != "Cf")
    words = _NO_WORD.sub(" ", _APOSTROPHES.sub("", visible)).split()
    if all(len(word) == 1 for word in words):
        words = ["".join(words)]  # S.T.O.P.
    return " ".join(_once(words))


def _once(words: list[str]) -> list[str]:
    for length in range(1, len(words) // 2 + 1):
        if words[:length] * (len(words) // length) == words:
            return words[:length]
    return words


def _without_courtesy(phrase: str) -> str:
    for beginning in _POLITE_BEGINNINGS:
        phrase = phrase.removeprefix(beginning + " ")
    shorter = _without_ending(phrase)
    while shorter != phrase:
        phrase, shorter = shorter, _without_ending(shorter)
    return phrase


def _without_ending(phrase: str) -> str:
    for ending in _POLITE_ENDINGS:
        if phrase.endswith(" " + ending):
            return phrase.removesuffix(" " + ending)
    return phrase
